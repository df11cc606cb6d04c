"""Find releases and files on the Hugging Face Hub and the web, and keep them in the cache."""

from __future__ import annotations

import hashlib
import http.client
import inspect
import io
import re
import shutil
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from json import JSONDecodeError
from pathlib import Path
from threading import Lock, Thread
from types import ModuleType
from typing import Any, BinaryIO, TypeVar
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urljoin, urlsplit
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
PROBE_PAUSES_S = (0.5, 1.0)  # before the second and third look for a server
ANSWER_LIMIT_S = 5.0  # for all looks together, look-up of the name included
NEEDS_NO_DOWNLOAD = (
    'built-in features need no download: label with the config cuts3d_color-texture_file-depth, '
    'or, without depth maps, maskcut_color-texture'
)
_CHUNK_BYTES = 1 << 20
_LONGEST_REASON = 300  # characters of what a server says
_SHA256, _GIT_SHA1 = re.compile(r'[0-9a-f]{64}'), re.compile(r'[0-9a-f]{40}')


class HubError(OSError):
    """The Hub or a server refused, or could not be reached."""


@dataclass(frozen=True)
class HubRepository:
    """A repository at a revision: a branch, tag or commit; None is the main branch."""

    repo_id: str
    revision: str | None = None

    @classmethod
    def parse(cls, text: str) -> HubRepository:
        """Read `owner/repo[@revision]`.

        Raises:
            ValueError: the text is malformed.
        """
        found = _REPOSITORY.fullmatch(text)
        if found is None:
            raise ValueError(f'Hub repository must be owner/repo[@revision], got {text}')
        return cls(found[1], found[2])


@dataclass(frozen=True)
class HubFile:
    """A file of a repository."""

    repository: HubRepository
    name: str

    @classmethod
    def parse(cls, text: str) -> HubFile:
        """Read `hf://owner/repo[@revision]/file`.

        Raises:
            ValueError: the text is malformed, or the file lies outside of the repository.
        """
        parts = text.removeprefix(HUB_PREFIX).split('/')
        if not text.startswith(HUB_PREFIX) or len(parts) < 3 or not all(parts):
            raise ValueError(f'Hub location must be hf://owner/repo[@revision]/file, got {text}')
        repository = HubRepository.parse('/'.join(parts[:2]))
        return cls(repository, require_inside('/'.join(parts[2:])))


def is_repository_name(text: str) -> bool:
    """Whether a text has the form of `owner/repo[@revision]`."""
    return _REPOSITORY.fullmatch(text) is not None


def find_release(model: str) -> Path | None:
    """Find the folder of a release; None if `model` names something else.

    Args:
        model: `owner/repo[@revision]`, also after `hf://`; a folder that `cuts3d download` made;
            or any other text.

    Raises:
        HubError: the Hub does not give the release.
    """
    if (Path(model) / CONFIG_FILE).is_file():
        return Path(model)
    name = model.removeprefix(HUB_PREFIX)
    if Path(model).exists() or not is_repository_name(name):
        return None
    repository = HubRepository.parse(name)
    config = fetch_file(HubFile(repository, CONFIG_FILE))
    # Both files from one commit, which is the name of the folder in the cache.
    pinned = HubRepository(repository.repo_id, config.parent.name)
    fetch_file(HubFile(pinned, WEIGHTS_FILE))
    return config.parent


def fetch_detector(model: str | None, weights: str | None) -> None:
    """Download a detector into the cache, if it is named by the Hub or an address.

    Commands call this before they import packages that take seconds.

    Raises:
        ValueError: the location is malformed.
        HubError: a file cannot be downloaded.
    """
    if weights is not None:
        locate_file(weights)
    elif model is not None:
        find_release(model)


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
        return fetch_file(HubFile.parse(location))
    if '://' not in location:
        return Path(location).expanduser()
    if urlsplit(location).scheme != 'https':
        raise ValueError(f'checkpoint must be a file, https:// or hf:// location, got {location}')
    target = cached_path(location)
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        download_url(location, target)
    return target


_UNSAFE = re.compile(r'[^\w.-]')
_LONGEST_NAME = 100  # characters of the name at the end of an address


def cached_path(url: str) -> Path:
    """Path of a downloaded file; the name holds a hash of the whole address."""
    import torch  # takes seconds; only files of the web need it

    name = _UNSAFE.sub('_', Path(urlsplit(url).path).name)[-_LONGEST_NAME:]
    digest = hashlib.sha256(url.encode()).hexdigest()
    return Path(torch.hub.get_dir()) / 'checkpoints' / f'{digest}_{name}'


def load_pretrained(load: Callable[..., Result], model: str, **options: Any) -> Result:
    """Load a model of transformers or diffusers; from the cache if the Hub does not answer.

    Args:
        load: method `from_pretrained` of a class.
        model: Hub id or folder.
        options: further arguments of `load`.

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
        raise HubError(f'{model}: it is not in the cache; {no_connection()}') from error


def fetch_file(file: HubFile, repo_type: str = 'model') -> Path:
    """Bring a file into the cache, or find it there, and check its hash.

    With HF_HUB_OFFLINE, or without a connection, only the cache is used.

    Raises:
        HubError: the file cannot be downloaded, or does not have the hash that the Hub states.
    """
    client = hub_client()
    require_inside(file.name)
    repository = file.repository
    with _names_of_cache_checked():
        path = call_hub(
            f'{repository.repo_id}/{file.name}',
            client.hf_hub_download,
            repository.repo_id,
            file.name,
            revision=repository.revision,
            repo_type=repo_type,
            local_files_only=_is_pinned_and_cached(file, repo_type) or not hub_answers(),
        )
    _check_hash(Path(path))
    return Path(path)


_checking = Lock()
_num_checks = 0
_ask_for_metadata: Any = None  # function of the client while ours takes its place


@contextmanager
def _names_of_cache_checked() -> Iterator[None]:
    """Let the client take hashes alone as names in its cache: it writes whatever they say.

    Raises:
        HubError: in the block, where a server states another name.
    """
    global _num_checks, _ask_for_metadata
    module = import_module('huggingface_hub.file_download')
    with _checking:
        _num_checks += 1
        if _num_checks == 1:
            _ask_for_metadata = module.get_hf_file_metadata
            module.get_hf_file_metadata = _checked_metadata  # type: ignore[attr-defined]
    try:
        yield
    finally:
        with _checking:
            _num_checks -= 1
            if not _num_checks:
                module.get_hf_file_metadata = _ask_for_metadata  # type: ignore[attr-defined]


def _checked_metadata(*args: Any, **kwargs: Any) -> Any:
    try:
        metadata = _ask_for_metadata(*args, **kwargs)
    except Exception as error:
        answer = getattr(error, 'response', None)
        if answer is not None:  # where a file is missing, the client notes this under the commit
            _require_hash('commit', answer.headers.get('X-Repo-Commit'))
        raise
    _require_hash('ETag', metadata.etag)
    _require_hash('commit', metadata.commit_hash)
    return metadata


def _require_hash(what: str, stated: str | None) -> None:
    is_hash = stated is None or _GIT_SHA1.fullmatch(stated) or _SHA256.fullmatch(stated)
    if not is_hash:
        raise HubError(
            f'the {what} must be a hash of 40 or 64 hexadecimal digits, the server states '
            f'{stated!r:.80}; check HF_ENDPOINT'
        )


def _is_pinned_and_cached(file: HubFile, repo_type: str) -> bool:
    """Whether the revision is a commit, which cannot change, and the cache has the file."""
    revision = file.repository.revision
    if revision is None or _GIT_SHA1.fullmatch(revision) is None:
        return False
    arguments = {'revision': revision, 'repo_type': repo_type}
    find = hub_client().try_to_load_from_cache
    return isinstance(find(file.repository.repo_id, file.name, **arguments), str)


def list_files(repository: HubRepository, repo_type: str = 'model') -> list[str]:
    """List the files of a repository.

    Raises:
        HubError: the Hub does not give the list.
        ValueError: a name leads out of the repository.
    """
    client = hub_client()
    revision = quote(repository.revision or 'main', safe='')
    path = f'api/{repo_type}s/{repository.repo_id}/tree/{revision}'
    url = f'{client.HfApi().endpoint}/{path}?recursive=true'
    entries = call_hub(repository.repo_id, _read_pages, url)
    names = [entry['path'] for entry in entries if entry['type'] != 'directory']
    return [require_inside(name) for name in names]


MOST_PAGES = 10_000  # pages of a listing; the Hub puts up to 1,000 names on each


def _read_pages(url: str) -> list[dict[str, Any]]:
    """Read a list that comes in pages, from one server alone: it is sent the token.

    Raises:
        HubError: the pages have no end, or lead elsewhere.
    """
    from huggingface_hub.utils import (  # type: ignore[attr-defined]
        build_hf_headers,
        get_session,
        hf_raise_for_status,
    )

    seen: dict[str, None] = {}
    entries: list[dict[str, Any]] = []
    page: str | None = url
    while page is not None:
        if page in seen or len(seen) == MOST_PAGES:
            raise HubError(f'the list of files has no end: {len(seen)} pages, then {page[:200]}')
        if urlsplit(page)[:2] != urlsplit(url)[:2]:
            raise HubError(f'the list of files leads to another server: {page[:200]}')
        seen[page] = None
        answer = get_session().get(page, headers=build_hf_headers(), timeout=TIMEOUT_S)
        hf_raise_for_status(answer)
        for entry in answer.json():
            if not isinstance(entry['path'], str) or not isinstance(entry['type'], str):
                raise TypeError('files have no names')
            entries.append(entry)
        following = answer.links.get('next', {}).get('url')
        page = None if following is None else urljoin(page, following)
    return entries


def download_repository(
    repository: HubRepository, folder: Path, names: Sequence[str] = (), repo_type: str = 'model'
) -> list[Path]:
    """Copy files of a repository into a folder, each one whole or not at all.

    Args:
        repository: repository to copy from.
        folder: folder to copy to, created if it does not exist.
        names: names of the files; all but `.gitattributes` if empty.
        repo_type: `model` or `dataset`.

    Returns:
        Paths of the copies.
    """
    every = [name for name in list_files(repository, repo_type) if name != '.gitattributes']
    if not names and not every:
        raise HubError(f'{repository.repo_id} holds no files')
    copies = []
    for name in names or every:
        source = fetch_file(HubFile(repository, name), repo_type)
        copies.append(path_to_write(folder, name))
        with source.open('rb') as reader, open_atomically(copies[-1]) as writer:
            shutil.copyfileobj(reader, writer, _CHUNK_BYTES)
    return copies


def file_sha256(path: Path) -> str:
    """Compute the SHA-256 of a file, which the Hub states for large files."""
    return _digest(path, hashlib.sha256())


def git_blob_sha1(path: Path) -> str:
    """Compute git's id of a content, which the Hub states for small files."""
    return _digest(path, hashlib.sha1(f'blob {path.stat().st_size}\0'.encode()))


def _digest(path: Path, digest: hashlib._Hash) -> str:
    with path.open('rb') as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _check_hash(path: Path) -> None:
    """Compare a file with the hash that is the name of its content in the cache.

    A cache of copies instead of links (on Windows) has no such names.
    """
    blob = path.resolve()
    is_large = _SHA256.fullmatch(blob.name) is not None
    if not is_large and _GIT_SHA1.fullmatch(blob.name) is None:
        return
    if (file_sha256 if is_large else git_blob_sha1)(blob) != blob.name:
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

    Args:
        what: repository or file that is asked for, for the error.
        function: function to call with all other arguments; with `local_files_only=True` it
            looks in the cache alone.

    Raises:
        HubError: the call failed; the message says what to do.
    """
    # Base of the client's errors since version 1.0; older versions raise an OSError.
    from huggingface_hub.errors import HTTPError as ClientError  # type: ignore[attr-defined]

    if not kwargs.get('local_files_only') and not hub_answers():
        raise HubError(f'{what}: {no_connection()}')
    # A RuntimeError is raised by a thread of the client.
    errors = (OSError, ClientError, RuntimeError, *_MALFORMED)

    def may_pass(error: Exception) -> bool:
        _require_no_malformed_answer(what, error)
        return _is_worth_repeating(_chain(error))

    try:
        return _repeat(partial(function, *args, **kwargs), errors, may_pass)
    except HubError:
        raise
    except errors as error:
        _require_no_malformed_answer(what, error)
        raise HubError(f'{what}: {_explain(_chain(error))}') from error


def _repeat(
    ask: Callable[[], Result],
    errors: tuple[type[Exception], ...],
    may_pass: Callable[[Exception], bool],
) -> Result:
    """Ask a server, and ask again after temporary errors: five attempts in all.

    Args:
        ask: function that asks, and returns the answer.
        errors: errors that `ask` raises.
        may_pass: function that tells whether an error may be temporary.
    """
    for pause in PAUSES_S:
        try:
            return ask()
        except HubError:
            raise
        except errors as error:
            if not may_pass(error):
                raise
            asked = _asked_pause(_chain(error))
        time.sleep(asked or pause)
    return ask()


def _require_no_malformed_answer(what: str, error: Exception) -> None:
    """Replace those errors of the client that do not say what is wrong.

    Raises:
        HubError: the client could not read the answer.
        HFValidationError: the client did not ask, because a name is malformed.
    """
    from huggingface_hub.errors import HFValidationError

    if isinstance(error, HFValidationError):
        raise error
    if isinstance(error, _MALFORMED) and (
        isinstance(error, JSONDecodeError) or not isinstance(error, OSError)
    ):
        reason = f'{type(error).__name__}: {_shortened(error)}'
        raise HubError(
            f'{what}: the answer is not from a Hub ({reason}); check HF_ENDPOINT, or try later'
        ) from error


def _chain(error: BaseException | None) -> list[BaseException]:
    """List an error and its causes, the outermost first."""
    links: list[BaseException] = []
    while error is not None and error not in links:
        links.append(error)
        error = error.__cause__ or error.__context__
    return links


def _status(error: BaseException) -> int | None:
    """Read the status in an error of urllib or of the client of the Hub."""
    if isinstance(error, HTTPError):
        return error.code
    return getattr(getattr(error, 'response', None), 'status_code', None)


def _is_worth_repeating(chain: list[BaseException]) -> bool:
    """Whether the error may be temporary and the client itself has not retried yet."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    if any(_status(error) == 429 for error in chain):
        return True
    has_given_up = any(isinstance(error, LocalEntryNotFoundError) for error in chain)
    return not has_given_up and any(_passes(error) for error in chain)


def _passes(error: BaseException) -> bool:
    """Whether the client itself would try again after such an error."""
    from huggingface_hub.utils import http_backoff  # type: ignore[attr-defined]

    repeated = inspect.signature(http_backoff).parameters['retry_on_exceptions'].default
    return isinstance(error, repeated) or _status(error) in PASSING_STATUS


def _asked_pause(chain: list[BaseException]) -> float | None:
    """Read the seconds in the header Retry-After."""
    for error in chain:
        answer = error if isinstance(error, HTTPError) else getattr(error, 'response', None)
        asked = '' if answer is None else answer.headers.get('Retry-After', '')
        if asked.isdigit():
            return min(float(asked), LONGEST_PAUSE_S)
    return None


def _explain(chain: list[BaseException]) -> str:
    from huggingface_hub import errors

    for error in chain:
        status = _status(error)
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
        if status is not None:
            return f'the Hub answered {status}: {_shortened(error)}'
    if any(isinstance(error, errors.LocalEntryNotFoundError) for error in chain):
        return f'it is not in the cache; {no_connection()}'
    if any(_passes(error) for error in chain):
        return f'the connection broke in every attempt; {no_connection()}'
    return _shortened(chain[0])


def _shortened(error: BaseException) -> str:
    """The start of a message, in a line: a server may answer with a page of its own."""
    text = ' '.join(str(error).split()) or type(error).__name__
    return text if len(text) <= _LONGEST_REASON else f'{text[:_LONGEST_REASON]} ...'


def no_connection() -> str:
    """Say why the Hub cannot be reached, and what needs no download."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        remedy = 'HF_HUB_OFFLINE is set, unset it once to download'
    else:
        remedy = f'{constants.ENDPOINT} does not answer, check the connection and try again'
    return f'{remedy}; {NEEDS_NO_DOWNLOAD}'


def hub_answers() -> bool:
    """Whether the Hub can be used: it answers within seconds, and HF_HUB_OFFLINE is not set."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        require_answer(constants.ENDPOINT)
    except NoAnswer:
        return False
    return True


class NoAnswer(ConnectionError):
    """A server does not answer, or its name cannot be resolved."""


def require_answer(url: str) -> None:
    """Check that the server of an address answers; a server that answered is not asked again.

    Raises:
        NoAnswer: no answer came within `ANSWER_LIMIT_S`.
    """
    parts = urlsplit(url)
    _require_answer(f'{parts.scheme}://{parts.netloc}/')


@cache  # an error is not cached: a server that did not answer is asked again
def _require_answer(url: str) -> None:
    answers: list[bool] = []
    # A thread, because nothing else ends the look-up of a name in time.
    asking = Thread(target=lambda: answers.append(_ask(url)), daemon=True)
    asking.start()
    asking.join(ANSWER_LIMIT_S)
    if not any(answers):
        raise NoAnswer(f'{url} does not answer')


def _ask(url: str) -> bool:
    for pause in PROBE_PAUSES_S:
        if _ask_once(url):
            return True
        time.sleep(pause)
    return _ask_once(url)


def _ask_once(url: str) -> bool:
    """Whether any answer comes; a refusal is an answer."""
    try:
        ask: Callable[..., Any] = build_opener(_AnyAnswer).open
        ask(Request(url, method='HEAD'), timeout=ANSWER_LIMIT_S).close()
    except (HTTPError, http.client.HTTPException, ValueError):
        return True  # a malformed address, too: the download says more about it
    except URLError as error:
        return isinstance(error.reason, (str, ssl.SSLError))
    except OSError:
        return False
    return True


class _AnyAnswer(HTTPRedirectHandler):
    """Takes a redirect as an answer instead of following it."""

    def redirect_request(self, *_: Any) -> None:
        """Follow no redirect."""
        return None


class _SameProtocol(HTTPRedirectHandler):
    """Follows redirects, but never to another protocol."""

    also: tuple[str, ...] = ()  # protocols that any other may lead to

    def redirect_request(self, request: Request, *args: Any) -> Request | None:
        new_url = args[-1]
        if urlsplit(new_url).scheme not in (urlsplit(request.full_url).scheme, *self.also):
            raise HubError(f'{request.full_url} leads to another protocol: {new_url}')
        return super().redirect_request(request, *args)


class _SameOrSafe(_SameProtocol):
    """Also follows redirects to https, as many photos of the web have."""

    also = ('https',)


LARGEST_DOWNLOAD_BYTES = 20 << 30  # the largest backbones have 5 GB
TIMEOUT_S = 30.0  # seconds without a byte


def download_url(url: str, target: Path) -> None:
    """Download a file, whole or not at all.

    Args:
        url: http(s) address.
        target: file to write, in a folder that exists.

    Raises:
        HubError: the file cannot be downloaded, even in five attempts, or is too large.
    """
    with open_atomically(target) as file:
        _download(url, file, LARGEST_DOWNLOAD_BYTES, _SameProtocol)


def fetch_url(url: str, most_bytes: int) -> io.BytesIO:
    """Download a small file into memory.

    Raises:
        HubError: the file cannot be downloaded, even in five attempts, or is too large.
    """
    file = io.BytesIO()
    _download(url, file, most_bytes, _SameOrSafe)
    file.seek(0)
    return file


def _download(
    url: str, file: BinaryIO, most_bytes: int, redirects: type[HTTPRedirectHandler]
) -> None:
    try:
        require_answer(url)
    except (NoAnswer, ValueError) as error:
        raise HubError(
            f'{url} cannot be downloaded: {error}, check the connection and try again; '
            f'{NEEDS_NO_DOWNLOAD}'
        ) from error
    part = _Part(url, file, most_bytes, redirects)
    errors = (OSError, http.client.HTTPException, ValueError)
    try:
        _repeat(part.go_on, errors, _may_pass)
    except HubError:
        raise
    except errors as error:
        raise HubError(f'{url} cannot be downloaded: {_shortened(error)}') from error


class _Part:
    """The part of a file that has arrived so far."""

    def __init__(
        self, url: str, file: BinaryIO, most_bytes: int, redirects: type[HTTPRedirectHandler]
    ) -> None:
        self._url, self._file, self._most_bytes = url, file, most_bytes
        self._opener = build_opener(redirects)
        self._version: str | None = None  # version of the content, by the server

    def go_on(self) -> None:
        """Ask for the rest of the file and write it.

        Raises:
            OSError, HTTPException, ValueError: the connection broke, or the server refuses.
        """
        request = Request(self._url)
        if self._file.tell() and self._version:
            request.add_header('Range', f'bytes={self._file.tell()}-')
            request.add_header('If-Range', self._version)
        with self._opener.open(request, timeout=TIMEOUT_S) as answer:
            begin = f'bytes {self._file.tell()}-'
            is_rest = answer.headers.get('Content-Range', '').startswith(begin)
            if answer.status != http.client.PARTIAL_CONTENT or not is_rest:
                self._file.seek(0)
                self._file.truncate()
            self._version = answer.headers.get('ETag')
            length = answer.headers.get('Content-Length', '')
            end = self._file.tell() + int(length) if length.isdigit() else None
            self._require_room(end or 0)
            while chunk := answer.read(_CHUNK_BYTES):
                self._file.write(chunk)
                self._require_room(self._file.tell())
        if end is not None and self._file.tell() != end:
            raise ConnectionError(f'cut after {self._file.tell():,} of {end:,} bytes')

    def _require_room(self, size: int) -> None:
        if size > self._most_bytes:
            raise HubError(
                f'{self._url} must have at most {self._most_bytes:,} bytes, it has more'
            )


def _may_pass(error: Exception) -> bool:
    if isinstance(error, HTTPError):
        return error.code in PASSING_STATUS
    if isinstance(error, http.client.InvalidURL):
        return False
    is_broken = isinstance(error, (ConnectionError, TimeoutError, http.client.HTTPException))
    return is_broken or isinstance(error, URLError)
