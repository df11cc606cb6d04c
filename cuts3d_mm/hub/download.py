"""Download files of a Hub repository into the cache of `huggingface_hub` or a folder."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from cuts3d_mm.files.atomic import open_atomically
from cuts3d_mm.files.paths import path_to_write, require_inside
from cuts3d_mm.hub.connection import HubError, call_hub, hub_answers, hub_client
from cuts3d_mm.hub.location import HubFile, HubRepository

_SHA256, _GIT_SHA1 = re.compile(r'[0-9a-f]{64}'), re.compile(r'[0-9a-f]{40}')
_CHUNK_BYTES = 1 << 20


def fetch_file(file: HubFile, repo_type: str = 'model') -> Path:
    """Bring a file into the cache, or find it there, and check its hash.

    With HF_HUB_OFFLINE, or without a connection, the cache answers alone.

    Raises:
        HubError: it cannot be downloaded, or is not what the Hub says it is.
    """
    client = hub_client()
    require_inside(file.name)
    repository = file.repository
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


def _is_pinned_and_cached(file: HubFile, repo_type: str) -> bool:
    """Whether the cache has the file of a commit, which cannot change."""
    revision = file.repository.revision
    if revision is None or _GIT_SHA1.fullmatch(revision) is None:
        return False
    arguments = {'revision': revision, 'repo_type': repo_type}
    find = hub_client().try_to_load_from_cache
    return isinstance(find(file.repository.repo_id, file.name, **arguments), str)


def list_files(repository: HubRepository, repo_type: str = 'model') -> list[str]:
    """List the files of a repository.

    Raises:
        HubError: the Hub does not give it.
        ValueError: a name that leads out of the repository.
    """
    api = hub_client().HfApi()
    names = call_hub(
        repository.repo_id,
        api.list_repo_files,
        repository.repo_id,
        revision=repository.revision,
        repo_type=repo_type,
    )
    if not all(isinstance(name, str) for name in names):
        raise HubError(
            f'{repository.repo_id}: the answer is not from a Hub, its files have no names'
        )
    return [require_inside(name) for name in names]


def download_repository(
    repository: HubRepository, folder: Path, names: Sequence[str] = (), repo_type: str = 'model'
) -> list[Path]:
    """Copy files of a repository into a folder, each one whole or not at all.

    Args:
        repository: where from.
        folder: where to, created if it does not exist.
        names: which; all but `.gitattributes` if empty.
        repo_type: `model` or `dataset`.

    Returns:
        The files.
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
    """SHA-256 of a file, as the Hub states it for large files."""
    return _digest(path, hashlib.sha256())


def git_blob_sha1(path: Path) -> str:
    """Id that git, and the Hub for small files, gives to a content."""
    return _digest(path, hashlib.sha1(f'blob {path.stat().st_size}\0'.encode()))


def _digest(path: Path, digest: hashlib._Hash) -> str:
    with path.open('rb') as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _check_hash(path: Path) -> None:
    """Compare a file with the hash by which the cache names its content.

    Where the cache has copies instead of links (Windows), there is no such name.
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
