"""Find releases and files on the Hugging Face Hub and the web, and keep them in the cache."""

from __future__ import annotations

import difflib
import hashlib
import inspect
import io
import re
import shutil
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from http.client import HTTPException, InvalidURL
from importlib import import_module
from json import JSONDecodeError
from pathlib import Path
from threading import RLock, Thread
from types import ModuleType
from typing import Any, BinaryIO, TypeVar
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from cuts3d_mm.files.atomic import open_atomically
from cuts3d_mm.files.paths import path_to_write, require_inside

Result = TypeVar('Result')
CONFIG_FILE, WEIGHTS_FILE = 'config.json', 'model.safetensors'
HUB_PREFIX = 'hf://'
_REPOSITORY = re.compile(r'([\w][\w.-]*/[\w][\w.-]*)(?:@([\w][\w./-]*))?')
# When a server is asked again: after which answers, and after which pauses.
PASSING_STATUS = {429, 500, 502, 503, 504}
PAUSES_S = (1.0, 2.0, 4.0, 8.0)  # before the second to the fifth attempt of a request
LONGEST_PAUSE_S = 60.0  # longest pause that a server may ask for
ANSWER_LIMIT_S = 5.0  # for the look for a server, look-up of its name included
NEEDS_NO_DOWNLOAD = (  # advice for whoever cuts masks
    'built-in features need no download: label with the config cuts3d_color-texture_file-depth, '
    'or, without depth maps, maskcut_color-texture'
)
_CHUNK_BYTES = 1 << 20
_HASH = re.compile(r'[0-9a-f]{40}|[0-9a-f]{64}')  # id of git, or SHA-256


class HubError(OSError):
    """The Hub or a server refused, or could not be reached."""


@contextmanager
def advising(advice: str) -> Iterator[None]:
    """Add advice that fits the command to the error of a download."""
    try:
        yield
    except HubError as error:
        error.add_note(advice)
        raise


@dataclass(frozen=True)
class HubRepository:
    """A repository at a revision: a branch, tag or commit; None is the main branch."""

    repo_id: str
    revision: str | None = None
    repo_type: str = 'model'  # or 'dataset'

    @classmethod
    def parse(cls, text: str, repo_type: str = 'model') -> HubRepository:
        """Read `owner/repo[@revision]`.

        Raises:
            ValueError: the text is malformed.
        """
        found = _REPOSITORY.fullmatch(text)
        if found is None:
            raise ValueError(f'Hub repository must be owner/repo[@revision], got {text}')
        return cls(found[1], found[2], repo_type)

    @property
    def options(self) -> dict[str, Any]:
        """Arguments by which functions of the client know revision and type."""
        return {'revision': self.revision, 'repo_type': self.repo_type}


def is_repository_name(text: str) -> bool:
    """Whether a text has the form of `owner/repo[@revision]`, and not that of a config."""
    return _REPOSITORY.fullmatch(text) is not None and not text.endswith('.py')


def find_release(model: str) -> Path | None:
    """Find the folder of a release; None if `model` names something else.

    Args:
        model: `owner/repo[@revision]`, also after `hf://`; a folder that `cuts3d download` made;
            or any other text.

    Raises:
        ValueError: there is no such folder in a folder that is there, or releases lie in it.
        HubError: the Hub does not give the release.
    """
    path = Path(model)
    if (path / CONFIG_FILE).is_file():
        return path
    inside = sorted(str(one.parent) for one in path.glob(f'*/{WEIGHTS_FILE}'))
    if inside:
        raise ValueError(f'{model} is no release; it holds {" and ".join(inside)}, name that')
    name, is_in_folder = model.removeprefix(HUB_PREFIX), '/' in model and path.parent.is_dir()
    folders = [one.name for one in path.parent.iterdir() if one.is_dir()] if is_in_folder else []
    alike = difflib.get_close_matches(path.name, folders, 1)
    is_repository = is_repository_name(name)
    if path.exists() or not (is_repository or alike):
        return None
    try:
        if is_repository:
            return _fetch_release(HubRepository.parse(name))
        reason = ''
    except HubError as error:
        if not is_in_folder:
            raise
        reason = f', and {error}'
    meant = f'; did you mean {path.parent / alike[0]}?' if alike else reason
    raise ValueError(f'{model} is no folder{meant}')


def _fetch_release(repository: HubRepository) -> Path:
    name = repository.repo_id
    with advising(
        f'a folder that cuts3d download {name} has made where it can be reached is a model, too'
    ):
        config = fetch_file(repository, CONFIG_FILE)
        # Both files from one commit, which is the name of the folder in the cache.
        fetch_file(HubRepository(name, config.parent.name), WEIGHTS_FILE)
    return config.parent


def locate_file(location: str) -> Path:
    """Find a file.

    Args:
        location: path of a file, `https://...`, or `hf://owner/repo[@revision]/file`.

    Returns:
        The local file, which need not exist if `location` is a path.

    Raises:
        ValueError: the location is malformed.
        HubError: the file cannot be downloaded.
    """
    if location.startswith(HUB_PREFIX):
        return fetch_file(*_parse_location(location))
    if '://' not in location:
        return Path(location).expanduser()
    if urlsplit(location).scheme != 'https':
        raise ValueError(f'checkpoint must be a file, https:// or hf:// location, got {location}')
    target = _cached_path(location)
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        download_url(location, target)
    return target


def needs_download(location: str) -> bool:
    """Tell whether `locate_file` would download a file; nothing is asked for."""
    if location.startswith('https://'):
        return not _cached_path(location).is_file()
    return location.startswith(HUB_PREFIX) and not _is_cached(*_parse_location(location))


def _parse_location(location: str) -> tuple[HubRepository, str]:
    """Split `hf://owner/repo[@revision]/file`."""
    owner, _, rest = location.removeprefix(HUB_PREFIX).partition('/')
    repo, _, name = rest.partition('/')
    if not name:
        raise ValueError(f'Hub location must be hf://owner/repo[@revision]/file, got {location}')
    return HubRepository.parse(f'{owner}/{repo}'), name


def _cached_path(url: str) -> Path:
    """Path of a downloaded file; the name holds a hash of the whole address."""
    import torch  # takes seconds; only files of the web need it

    # The last 100 characters: a file system allows 255.
    name = re.sub(r'[^\w.-]', '_', Path(urlsplit(url).path).name)[-100:]
    digest = hashlib.sha256(url.encode()).hexdigest()
    return Path(torch.hub.get_dir()) / 'checkpoints' / f'{digest}_{name}'


def _is_cached(repository: HubRepository, name: str) -> bool:
    look_up = hub_client().try_to_load_from_cache
    return isinstance(look_up(repository.repo_id, name, **repository.options), str)


def load_pretrained(load: Callable[..., Result], model: str, **options: Any) -> Result:
    """Load a model of transformers or diffusers; from the cache if the Hub does not answer.

    `load` is the method `from_pretrained` of a class, `model` a Hub id or a folder.

    Raises:
        HubError: the Hub does not answer, and the cache does not have the model.
    """
    if Path(model).is_dir():
        return load(model, **options)
    is_offline = not hub_answers()
    try:
        with _names_of_cache_checked():
            return load(model, local_files_only=is_offline, **options)
    except OSError as error:
        if not is_offline:
            raise
        with advising(NEEDS_NO_DOWNLOAD):
            raise HubError(f'{model}: it is not in the cache; {no_connection()}') from error


def fetch_file(repository: HubRepository, name: str) -> Path:
    """Bring a file into the cache, or find it there, and check its hash.

    With HF_HUB_OFFLINE, or without a connection, only the cache is used.

    Raises:
        HubError: the file cannot be downloaded, or does not have the hash that the Hub states.
    """
    require_inside(name)
    revision = repository.revision
    # A commit cannot change: a file of one that is in the cache is not asked for.
    is_commit = revision is not None and _HASH.fullmatch(revision) is not None
    is_here = is_commit and _is_cached(repository, name)
    with _names_of_cache_checked():
        path = call_hub(
            f'{repository.repo_id}/{name}',
            hub_client().hf_hub_download,
            repository.repo_id,
            name,
            **repository.options,
            local_files_only=is_here or not hub_answers(),
        )
    _check_hash(Path(path))
    return Path(path)


_patching = RLock()


@contextmanager
def _names_of_cache_checked() -> Iterator[None]:
    """Let the client take hashes alone as names in its cache: it writes whatever they say.

    Raises:
        HubError: in the block, where a server states another name.
    """
    module: Any = import_module('huggingface_hub.file_download')

    def ask_and_check(*args: Any, **kwargs: Any) -> Any:
        try:
            metadata = ask(*args, **kwargs)
        except Exception as error:
            answer = getattr(error, 'response', None)
            if answer is not None:  # a missing file is noted under the commit
                _require_hash('commit', answer.headers.get('X-Repo-Commit'))
            raise
        _require_hash('ETag', metadata.etag)
        _require_hash('commit', metadata.commit_hash)
        _require_room('the file', metadata.size or 0, LARGEST_DOWNLOAD_BYTES)
        return metadata

    with _patching:
        ask = module.get_hf_file_metadata
        module.get_hf_file_metadata = ask_and_check
        try:
            yield
        finally:
            module.get_hf_file_metadata = ask


def _require_hash(what: str, stated: str | None) -> None:
    if stated is not None and not _HASH.fullmatch(stated):
        raise HubError(
            f'the {what} must be a hash of 40 or 64 hexadecimal digits, the server states '
            f'{stated!r:.80}; check HF_ENDPOINT'
        )


MOST_FILES = 50_000  # files up to which the Hub gives the whole list at once


def stated_hashes(repository: HubRepository) -> dict[str, str]:
    """List the files of a repository, each with the hash that the Hub states for it.

    Raises:
        HubError: the Hub does not give the list.
        ValueError: a name leads out of the repository.
    """
    name, options = repository.repo_id, {**repository.options, 'files_metadata': True}

    def ask() -> dict[str, str]:
        files = hub_client().HfApi().repo_info(name, **options).siblings
        if not all(isinstance(file.rfilename, str) for file in files):
            raise TypeError('files have no names')
        return {one.rfilename: str(one.lfs.sha256 if one.lfs else one.blob_id) for one in files}

    hashes = call_hub(name, ask)
    if len(hashes) >= MOST_FILES:
        raise HubError(f'{name} must hold fewer than {MOST_FILES} files, it holds more')
    for file in hashes:
        require_inside(file)
    return hashes


def download_repository(
    repository: HubRepository, folder: Path, names: Sequence[str] = ()
) -> list[Path]:
    """Copy files of a repository into a folder, each one whole or not at all.

    Without `names`, all but `.gitattributes`. The folder is created if it does not exist.
    """
    names = names or [name for name in stated_hashes(repository) if name != '.gitattributes']
    if not names:
        raise HubError(f'{repository.repo_id} holds no files')
    copies = []
    for name in names:
        source = fetch_file(repository, name)
        copies.append(path_to_write(folder, name))
        with source.open('rb') as reader, open_atomically(copies[-1]) as writer:
            shutil.copyfileobj(reader, writer, _CHUNK_BYTES)
    return copies


def file_sha256(path: Path) -> str:
    """Compute the SHA-256 of a file, which the Hub states for large files."""
    with path.open('rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


def has_hash(path: Path, stated: str) -> bool:
    """Whether a file has the hash that the Hub states: its SHA-256, or git's id of small files."""
    if len(stated) == 64:  # digits of a SHA-256
        return file_sha256(path) == stated
    header = f'blob {path.stat().st_size}\0'.encode()
    with path.open('rb') as file:
        return hashlib.file_digest(file, lambda: hashlib.sha1(header)).hexdigest() == stated


def _check_hash(path: Path) -> None:
    """Compare a file with the hash that is the name of its content in the cache.

    A cache of copies instead of links (on Windows) has no such names.
    """
    blob = path.resolve()
    if _HASH.fullmatch(blob.name) and not has_hash(blob, blob.name):
        path.unlink()
        blob.unlink()
        raise HubError(
            f'{path.name} did not have the hash that the Hub states, {blob.name}; it was removed '
            'from the cache, so run the same command again'
        )


def hub_client() -> ModuleType:
    """Import `huggingface_hub`.

    Raises:
        ImportError: the package is not installed.
    """
    try:
        return import_module('huggingface_hub')
    except ModuleNotFoundError as error:
        raise ImportError(
            "the Hugging Face Hub needs huggingface_hub: pip install 'cuts3d_mm[hub]'"
        ) from error


# Errors that the client raises if an answer is no JSON, or JSON of an unknown shape.
_MALFORMED = (ValueError, TypeError, LookupError, AttributeError, RecursionError)


def call_hub(what: str, function: Callable[..., Result], *args: Any, **kwargs: Any) -> Result:
    """Call a function of `huggingface_hub`.

    If the Hub does not answer, the call fails within seconds. Temporary errors (429, 5xx) and
    broken connections are retried, five attempts in all; a download continues where it was cut.

    With `local_files_only=True` the function looks in the cache alone.

    Raises:
        HubError: the call failed; the message begins with `what` and says what to do.
    """
    # Base of the client's errors since version 1.0; older versions raise an OSError.
    from huggingface_hub.errors import HTTPError as ClientError  # type: ignore[attr-defined]

    if not kwargs.get('local_files_only') and not hub_answers():
        raise HubError(f'{what}: {no_connection()}')
    # A RuntimeError is raised by a thread of the client.
    errors = (OSError, ClientError, RuntimeError, *_MALFORMED)
    return _repeat(what, partial(function, *args, **kwargs), errors, _explain)


def _repeat(
    what: str,
    ask: Callable[[], Result],
    errors: tuple[type[Exception], ...],
    explain: Callable[[Exception], tuple[str, bool]],
) -> Result:
    """Ask a server, and ask again after temporary errors: five attempts in all.

    `explain` gives the reason of an error, and whether it may be temporary.
    """
    pauses = iter(PAUSES_S)
    while True:
        try:
            return ask()
        except HubError:
            raise
        except errors as error:
            reason, may_pass = explain(error)
            pause = next(pauses, None)
            if pause is None or not may_pass:
                raise HubError(f'{what}: {reason}') from error
            answers = [answer for _, answer in _chain(error) if answer is not None]
            asked = [answer.headers.get('Retry-After') or '' for answer in answers]
            seconds = next((float(one) for one in asked if one.isdecimal()), pause)
        time.sleep(min(seconds, LONGEST_PAUSE_S))


def _chain(error: BaseException | None) -> list[tuple[BaseException, Any]]:
    """List an error and its causes, the outermost first, each with the answer of the server."""
    links: list[tuple[BaseException, Any]] = []
    while error is not None and all(error is not link for link, _ in links):
        is_answer = isinstance(error, HTTPError)  # as urllib raises it
        links.append((error, error if is_answer else getattr(error, 'response', None)))
        error = error.__cause__ or error.__context__
    return links


def _explain(error: Exception) -> tuple[str, bool]:
    """Explain an error of the client, and tell whether asking again may help.

    Raises:
        HFValidationError: the client did not ask, because a name is malformed.
    """
    from huggingface_hub import errors
    from huggingface_hub.utils import http_backoff  # type: ignore[attr-defined]

    if isinstance(error, errors.HFValidationError):
        raise error
    is_json = isinstance(error, JSONDecodeError)
    if isinstance(error, _MALFORMED) and (is_json or not isinstance(error, OSError)):
        reason = f'{type(error).__name__}: {_shortened(error)}'
        return f'the answer is not from a Hub ({reason}); check HF_ENDPOINT, or try later', False
    chain = [(one, getattr(answer, 'status_code', None)) for one, answer in _chain(error)]
    # What the client itself asks again for; where it says that a file is nowhere, it has done so.
    repeated = inspect.signature(http_backoff).parameters['retry_on_exceptions'].default
    is_broken = any(isinstance(one, repeated) for one, _ in chain)
    has_given_up = any(isinstance(one, errors.LocalEntryNotFoundError) for one, _ in chain)
    is_passing = is_broken or any(status in PASSING_STATUS for _, status in chain)
    may_pass = any(status == 429 for _, status in chain) or (is_passing and not has_given_up)
    for one, status in chain:
        if (told := _told(one, status)) is not None:
            return told, may_pass
    if has_given_up:
        return f'it is not in the cache; {no_connection()}', may_pass
    if is_broken:
        return f'the connection broke in every attempt; {no_connection()}', may_pass
    return _shortened(error), may_pass


def _told(error: BaseException, status: int | None) -> str | None:
    """Say what an answer means; None if there was no answer."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return "access is gated; accept the conditions on the repository's page, then log in"
    if isinstance(error, errors.RevisionNotFoundError):
        return 'there is no such revision; name a branch, tag or commit of the repository'
    if isinstance(error, errors.EntryNotFoundError) and status == 404:
        return 'there is no such file in the repository'
    if isinstance(error, errors.RepositoryNotFoundError) or status in (401, 403):
        return (
            'there is no such repository, or you may not read it; check its name, and log in '
            'by `hf auth login` or HF_TOKEN'
        )
    if status in PASSING_STATUS:
        return f'the Hub answered {status} to every attempt; try later'
    return None if status is None else f'the Hub answered {status}: {_shortened(error)}'


def _shortened(error: BaseException) -> str:
    """The first 300 characters, in a line: a server may answer with a page of its own."""
    text = ' '.join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else f'{text[:300]} ...'


def no_connection() -> str:
    """Say why the Hub cannot be reached."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return 'HF_HUB_OFFLINE is set, unset it once to download'
    return f'{constants.ENDPOINT} does not answer, check the connection and try again'


def hub_answers() -> bool:
    """Whether the Hub can be used: it answers within seconds, and HF_HUB_OFFLINE is not set."""
    from huggingface_hub import constants

    return not constants.HF_HUB_OFFLINE and _answers(constants.ENDPOINT)


_answered: set[str] = set()  # servers that have answered, which are not asked again


def _answers(url: str) -> bool:
    """Whether the server of an address answers within `ANSWER_LIMIT_S`; a refusal is an answer."""
    server = '/'.join(url.split('/')[:3])

    def ask() -> None:
        try:
            request = Request(f'{server}/', method='HEAD')
            build_opener(_Redirects).open(request, timeout=ANSWER_LIMIT_S).close()
        except (HTTPError, HTTPException, ValueError, HubError):
            pass  # a malformed address, too: the download says more about it
        except URLError as error:
            if not isinstance(error.reason, (str, ssl.SSLError)):
                return
        except OSError:
            return
        _answered.add(server)

    if server not in _answered:
        # A thread, because nothing else ends the look-up of a name in time.
        asking = Thread(target=ask, daemon=True)
        asking.start()
        asking.join(ANSWER_LIMIT_S)
    return server in _answered


class _Redirects(HTTPRedirectHandler):
    """Follows redirects to the same protocol, or to https, as many photos of the web have."""

    def redirect_request(self, request: Request, *args: Any) -> Request | None:
        new_url = args[-1]
        if urlsplit(new_url).scheme not in (urlsplit(request.full_url).scheme, 'https'):
            raise HubError(f'{request.full_url} leads to another protocol: {new_url}')
        return super().redirect_request(request, *args)


LARGEST_DOWNLOAD_BYTES = 20 << 30  # the largest backbones have 5 GB
TIMEOUT_S = 30.0  # seconds without a byte


def download_url(url: str, target: Path) -> None:
    """Download a file of the web, whole or not at all, into a folder that exists.

    Raises:
        HubError: the file cannot be downloaded, even in five attempts, or is too large.
    """
    with open_atomically(target) as file:
        _download(url, file, LARGEST_DOWNLOAD_BYTES)


def fetch_url(url: str, most_bytes: int) -> io.BytesIO:
    """Download a small file into memory.

    Raises:
        HubError: the file cannot be downloaded, even in five attempts, or is too large.
    """
    file = io.BytesIO()
    _download(url, file, most_bytes)
    file.seek(0)
    return file


def _require_room(what: str, size: int, most_bytes: int) -> None:
    if size > most_bytes:
        raise HubError(f'{what} must have at most {most_bytes:,} bytes, it has more')


def _download(url: str, file: BinaryIO, most_bytes: int) -> None:
    what = f'{url} cannot be downloaded'
    if not _answers(url):
        raise HubError(f'{what}: the server does not answer, check the connection and try again')
    version: str | None = None  # version of the content so far, by the server

    def go_on() -> None:
        """Ask for the rest of the file and write it."""
        nonlocal version
        request = Request(url)
        if file.tell() and version:
            request.add_header('Range', f'bytes={file.tell()}-')
            request.add_header('If-Range', version)
        with build_opener(_Redirects).open(request, timeout=TIMEOUT_S) as answer:
            begin = f'bytes {file.tell()}-'
            is_rest = answer.headers.get('Content-Range', '').startswith(begin)
            if answer.status != HTTPStatus.PARTIAL_CONTENT or not is_rest:
                file.seek(0)
                file.truncate()
            version = answer.headers.get('ETag')
            length = answer.headers.get('Content-Length', '')
            end = file.tell() + int(length) if length.isdecimal() else None
            _require_room(url, end or 0, most_bytes)
            while chunk := answer.read(_CHUNK_BYTES):
                file.write(chunk)
                _require_room(url, file.tell(), most_bytes)
        if end is not None and file.tell() != end:
            raise ConnectionError(f'cut after {file.tell():,} of {end:,} bytes')

    def explain(error: Exception) -> tuple[str, bool]:
        may_pass = isinstance(error, (URLError, ConnectionError, TimeoutError, HTTPException))
        if isinstance(error, HTTPError):
            may_pass = error.code in PASSING_STATUS
        return _shortened(error), may_pass and not isinstance(error, InvalidURL)

    _repeat(what, go_on, (OSError, HTTPException, ValueError), explain)
