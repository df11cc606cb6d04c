"""Turn names from untrusted files into paths that stay in their folder.

Names out of folders, lists, COCO JSONs, label stores and archives pass through here before
anything is read or written under them.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import BinaryIO

_CONTROL = re.compile(r'[\x00-\x1f\x7f-\x9f]')
_DRIVE = re.compile(r'[A-Za-z]:')
_SEPARATOR = re.compile(r'[/\\]')  # separators of all systems: a name means the same on each
_LONGEST_PART = 255  # bytes; the limit of today's file systems
_LONGEST_QUOTE = 120  # characters
_LONGEST_PATH = 4095  # bytes; PATH_MAX of Linux without the end
_KINDS = {
    stat.S_IFDIR: 'a folder',
    stat.S_IFIFO: 'a named pipe',
    stat.S_IFSOCK: 'a socket',
    stat.S_IFCHR: 'a device',
    stat.S_IFBLK: 'a device',
}


class BadName(ValueError):
    """A name that must not, or cannot, be used for a file in its folder."""


def require_inside(name: str) -> str:
    """Check that the name of a file stays in its folder, on any system.

    A name is relative, with forward slashes: no `..`, `.` or empty part, no drive, no control
    character, no part above 255 bytes.

    Raises:
        BadName: the name breaks one of these rules.
    """
    reason = _what_is_wrong(name)
    if reason:
        raise BadName(f'file name must stay inside its folder, got {_quoted(name)}: {reason}')
    return name


def is_inside(name: str) -> bool:
    """Whether `require_inside` lets a name pass."""
    return _what_is_wrong(name) is None


def path_inside(root: Path, name: str) -> Path:
    """Join a folder and a name; no link in the path may lead out of the folder.

    The folder may be a link itself, and the file need not exist.

    Raises:
        BadName: the name, or a link that it passes through, leaves the folder.
    """
    path = root / require_inside(name)
    if len(os.fsencode(path)) > _LONGEST_PATH:
        raise BadName(f'path must have at most {_LONGEST_PATH} bytes, got {_quoted(name)}')
    real_root = os.path.realpath(root)
    if os.path.commonpath([real_root, os.path.realpath(path)]) != real_root:
        raise BadName(
            f'file name must stay inside its folder, got {_quoted(name)}: a link leads out of '
            f'{root}; copy the file there, or name the folder that it is in'
        )
    return path


def path_to_write(root: Path, name: str) -> Path:
    """Join a folder and the name of a file to write, and make the folders on the way.

    Raises:
        BadName: the name leaves the folder, names a folder, or passes through a file.
        OSError: a folder cannot be made for another reason.
    """
    path = path_inside(root, name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise BadName(f'{_quoted(name)} needs a folder where there is a file') from error
    if path.is_dir():
        raise BadName(f'{_quoted(name)} must be a file, there is a folder of that name')
    return path


def require_writable(folder: object, name: str) -> None:
    """Check that a folder on this machine can be made or written to, before long work begins.

    Raises:
        ValueError: the path is no folder, or nothing can be written there; the message calls it
            `name`.
    """
    if not isinstance(folder, Path):
        return
    there = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    if not there.is_dir():
        raise ValueError(f'{name} must be a folder, got {folder}; {there} is a file')
    if not os.access(there, os.W_OK | os.X_OK):
        raise ValueError(f'{name} must be a folder that can be written, got {folder}')


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading; never wait for a pipe, never touch a device.

    Raises:
        OSError: the file is missing, is not a regular file, or may not be read.
    """
    if os.path.islink(path) and not os.path.exists(path):
        raise FileNotFoundError(f'the link {shown(str(path))} leads nowhere')
    _require_regular(os.stat(path).st_mode, path)
    # If a pipe takes the place of the file now, opening must not wait for a writer.
    handle = os.open(path, os.O_RDONLY | getattr(os, 'O_NONBLOCK', 0) | getattr(os, 'O_BINARY', 0))
    try:
        _require_regular(os.fstat(handle).st_mode, path)
        return os.fdopen(handle, 'rb')
    except BaseException:
        os.close(handle)
        raise


def shown(name: str) -> str:
    r"""Show a name as valid UTF-8; a byte that is not UTF-8 becomes `\xNN`."""
    try:
        encoded = name.encode('utf-8', 'surrogateescape')
    except UnicodeEncodeError:  # a surrogate that does not stand for a byte
        encoded = name.encode('utf-8', 'backslashreplace')
    return encoded.decode('utf-8', 'backslashreplace')


def _quoted(name: str) -> str:
    text = shown(name)
    return repr(text if len(text) <= _LONGEST_QUOTE else f'{text[:_LONGEST_QUOTE]}...')


def _what_is_wrong(name: str) -> str | None:
    parts = _SEPARATOR.split(name)
    if shown(name) != name:
        return 'it is not UTF-8; rename the file'
    if _CONTROL.search(name):
        return 'it holds a control character'
    if _DRIVE.match(name) or name.startswith(('/', '\\')):
        return 'it is absolute'
    if '..' in parts:
        return 'it climbs out with ..'
    if '' in parts or '.' in parts:
        return 'it has an empty part'
    if max(len(part.encode()) for part in name.split('/')) > _LONGEST_PART:
        return f'a part of it is longer than {_LONGEST_PART} bytes'
    return None


def _require_regular(mode: int, path: Path) -> None:
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), 'something else')
        raise OSError(f'{shown(str(path))} must be a regular file, it is {kind}')
