"""Write files and folders so that they appear whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import os
import re
import shutil
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

from .remote import BucketPath, Place

TEMPORARY_SUFFIX = '.partial'
# Start of the name of the file, mark of the process, number of the file.
_TEMPORARY = re.compile(r'\.(.*)\.([0-9a-f]{8})-(\d+)-(\d+)\.\d+\.partial', re.DOTALL)
_LONGEST_STEM = 120  # bytes; a whole name may have 255
_CERTAINLY_OLD_S = 86400.0  # no process writes a file for a day
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
_numbers = itertools.count()


@contextmanager
def open_atomically(path: Place) -> Iterator[BinaryIO]:
    """Open a file for writing that takes its name only when all of it is on disk.

    Until then the file has a temporary name next to `path`; it is removed if writing fails. A
    link is followed; a pipe or device, such as /dev/stdout, is written directly. A file in a
    bucket is uploaded whole.

    Raises:
        OSError: the file cannot be written; an earlier file at `path` stays as it was.
    """
    if isinstance(path, BucketPath):
        with path.publish() as file:
            yield file
        return
    if path.exists() and not path.is_file():
        with path.open('wb') as file:  # a folder: an error that says so
            yield file
        return
    target = Path(os.path.realpath(path))
    with _named_at_the_end(target, path) as temporary, temporary.open('xb') as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def write_whole(path: Place, content: bytes | str) -> None:
    """Write a file that takes its name only when all of it is on disk; text as UTF-8."""
    with open_atomically(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def write_lines(path: Place, rows: Iterable[dict[str, Any]]) -> None:
    """Write a whole file with a JSON object a line."""
    with open_atomically(path) as file:
        for row in rows:
            line = json.dumps(row, ensure_ascii=False)
            file.write(line.encode('utf-8', 'backslashreplace') + b'\n')


def write_items(file: BinaryIO, items: Iterable[dict[str, Any]]) -> int:
    """Write the elements of a JSON list, one a line, and return their number."""
    count = 0
    for count, item in enumerate(items, start=1):
        file.write((',\n' if count > 1 else '\n').encode() + json.dumps(item).encode())
    return count


def write_first(path: Place, content: bytes) -> bool:
    """Write a whole file unless it exists, even if several processes try at the same moment.

    In a bucket, and on a file system without hard links, the last process wins.

    Returns:
        Whether this call wrote the file.
    """
    if isinstance(path, BucketPath):
        write_whole(path, content)
        return True
    temporary = _temporary_path(path)
    write_whole(temporary, content)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        temporary.replace(path)
    finally:
        _remove(temporary)
    return True


@contextmanager
def name_atomically(path: Path) -> Iterator[Path]:
    """Let a library write a file by its path; the file takes its name when the block has ended.

    Yields:
        A path of the same name in a temporary folder, which is removed in any case.
    """
    with _named_at_the_end(path, path, path.name) as folder:
        folder.mkdir()
        yield folder / path.name


@contextmanager
def make_folder_atomically(path: Path) -> Iterator[Path]:
    """Make a folder that takes its name only when its content is whole.

    Yields:
        A new folder next to `path`, which is removed if the block fails.

    Raises:
        FileExistsError: `path` is there already.
    """
    if os.path.lexists(path):
        raise FileExistsError(f'OUT must not exist yet, got {path}')
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path.parent, path.name)
    with _named_at_the_end(path, path) as temporary:
        temporary.mkdir()
        yield temporary


@contextmanager
def _named_at_the_end(target: Path, path: Path, name: str = '') -> Iterator[Path]:
    """Give a temporary path for a file or folder; what is there, or below `name`, is renamed.

    Errors speak of `path`, which may be a link to `target`.
    """
    temporary = _temporary_path(target)
    try:
        yield temporary
        (temporary / name).replace(target)
    except BaseException as error:
        _explain(error, path)
        raise
    finally:
        _remove(temporary)


def remove_leftovers(folder: Place, name: str | None = None) -> None:
    """Remove unfinished files of processes that were killed; a bucket has no such files.

    A file stays if a living process, or perhaps another machine, is still writing it. With `name`
    only leftovers of the file or folder of that name are removed.
    """
    if isinstance(folder, BucketPath):
        return
    for path in folder.glob(f'.*{TEMPORARY_SUFFIX}'):
        found = _TEMPORARY.fullmatch(path.name)
        if found is None or (name is not None and found[1] != _stem(name)):
            continue
        mark = ProcessMark(found[2], int(found[3]), int(found[4]))
        if mark.is_dead() or _age_s(path) > _CERTAINLY_OLD_S:
            _remove(path)


def _temporary_path(path: Path) -> Path:
    mark = ProcessMark.of_this_process()
    name = f'.{_stem(path.name)}.{mark}.{next(_numbers)}{TEMPORARY_SUFFIX}'
    return path.with_name(name)


def _stem(name: str) -> str:
    return os.fsencode(name)[:_LONGEST_STEM].decode('utf-8', 'ignore')


def _age_s(path: Path) -> float:
    try:
        return time.time() - path.lstat().st_mtime
    except FileNotFoundError:  # another run has removed it
        return 0.0


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _explain(error: BaseException, path: Path) -> None:
    """Raise an error that says what to do, where that is known."""
    causes = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None:
        causes.append(cause)  # torch.save, for example, wraps the error of the file
    for cause in reversed(causes):
        if isinstance(cause, OSError) and cause.errno in _NO_ROOM:
            what = f'{cause.strerror}: {path} is not written'
            raise OSError(
                cause.errno, f'{what}; make room, then run the same command again'
            ) from error
    is_missing = isinstance(error, OSError) and error.errno == errno.ENOENT
    if is_missing and not path.parent.is_dir():
        raise FileNotFoundError(
            errno.ENOENT, f'folder {path.parent} must exist to write {path.name}; make it first'
        ) from error


@dataclass(frozen=True)
class ProcessMark:
    """A process; a later process with the same number has another mark."""

    machine: str  # digest of host, boot and container
    pid: int
    started: int  # clock ticks since boot; 0 where the system does not say

    @classmethod
    def of_this_process(cls) -> ProcessMark:
        """Mark the process that calls."""
        return cls(_machine(), os.getpid(), _start_time(os.getpid()) or 0)

    def __str__(self) -> str:
        return f'{self.machine}-{self.pid}-{self.started}'

    def is_dead(self) -> bool:
        """Whether the process has certainly ended; never certain for another machine."""
        return self.machine == _machine() and _start_time(self.pid) != self.started


@cache
def _machine() -> str:
    boot = Path('/proc/sys/kernel/random/boot_id')
    parts = [socket.gethostname(), boot.read_text() if boot.is_file() else '']
    if os.path.lexists('/proc/self/ns/pid'):
        parts.append(os.readlink('/proc/self/ns/pid'))
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:8]


_START_TIME_FIELD = 19  # place in /proc/PID/stat, counted after the name of the program


def _start_time(pid: int) -> int | None:
    """Start of a process in clock ticks since boot; 0: unknown; None: the process has ended."""
    if os.path.isdir('/proc/self'):
        try:
            fields = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return None
        is_ended = fields[0] in 'XZ'  # dead, but its parent has not read the exit code yet
        return None if is_ended else int(fields[_START_TIME_FIELD])
    if os.name == 'nt':  # os.kill would end the process
        return 0
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        return 0
    return 0
