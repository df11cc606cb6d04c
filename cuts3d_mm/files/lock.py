"""Let one run at a time write into a folder."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from .remote import BucketPath, Place

_LOCK = '.lock'
_MOUNTS = Path('/proc/self/mountinfo')
_UNSUPPORTED = (errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)
_NETWORK = re.compile(
    r'nfs\d*|cifs|smb\d*|smbfs|afs|9p|ceph|lustre|gpfs|beegfs|glusterfs|fuse\..+|fuse|davfs|ncpfs'
)
_OCTAL = re.compile(r'\\(\d{3})')  # how mountinfo writes a blank


try:
    import fcntl
except ImportError:  # Windows, where folders are not locked
    fcntl = None  # type: ignore[assignment]


class FolderInUse(RuntimeError):
    """Another living process writes into the folder."""


@contextmanager
def hold_folder(folder: Place, part: int = 0, parts: int = 1) -> Iterator[None]:
    """Keep other runs out of a folder for as long as the block lasts.

    Different parts of one run may work in the folder at the same time. The system frees the lock
    of a process that dies. On a network file system and in a bucket nothing is locked: runs are
    safe there because each file is written whole, under a temporary name of its own.

    Args:
        folder: folder to lock, which must exist.
        part: number of the part of the run, from 0.
        parts: number of parts; 1: the run is not divided.

    Raises:
        FolderInUse: another process works on the same part or on the whole run; the message
            names the process.
    """
    if fcntl is None or isinstance(folder, BucketPath) or _is_on_network(folder):
        yield
        return
    with ExitStack() as held:
        try:
            _lock(held, folder / _LOCK, is_shared=parts > 1)
            if parts > 1:
                _lock(held, folder / f'{_LOCK}-{part}-of-{parts}', is_shared=False)
        except BlockingIOError:
            raise FolderInUse(
                f'{folder} is being written by {_holders(folder)}; wait until that ends, or '
                'choose another folder'
            ) from None
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
        yield


def _lock(held: ExitStack, path: Path, is_shared: bool) -> None:
    """Take a lock until `held` closes.

    Raises:
        BlockingIOError: another process holds the lock.
    """
    kind = fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
        except BaseException:
            os.close(handle)
            raise
        if _is_same_file(handle, path):
            break
        os.close(handle)  # the last holder removed the file meanwhile
    held.callback(_unlock, handle, path)
    os.truncate(handle, 0)
    if not is_shared:
        with suppress(OSError):  # a full disk; the number is for messages alone
            os.write(handle, str(os.getpid()).encode())


def _unlock(handle: int, path: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_same_file(handle, path):
            path.unlink(missing_ok=True)
    except OSError:  # other parts still share the lock
        pass
    finally:
        # Explicitly, since a forked process may have inherited the file.
        fcntl.flock(handle, fcntl.LOCK_UN)
        os.close(handle)


def _is_same_file(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def _holders(folder: Path) -> str:
    paths = sorted(folder.glob(f'{_LOCK}*'))
    found = [path.read_text().strip() for path in paths if _is_held(path)]
    return f'process {", ".join(found)}' if any(found) else 'another process'


def _is_held(path: Path) -> bool:
    try:
        with path.open('rb') as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


def _is_on_network(folder: Path) -> bool:
    """Whether other machines may see the folder; False where the system does not say."""
    if not _MOUNTS.is_file():
        return False
    place = os.path.realpath(folder)
    best, kind = '', ''
    for line in _MOUNTS.read_text(errors='surrogateescape').splitlines():
        before, _, after = line.partition(' - ')
        point = _OCTAL.sub(lambda code: chr(int(code[1], 8)), before.split()[4])
        is_above = place == point or place.startswith(point.rstrip('/') + '/')
        if is_above and len(point) >= len(best):
            best, kind = point, after.split()[0]
    return _NETWORK.fullmatch(kind) is not None
