"""Find the names of images in a folder, a text file or a COCO JSON."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path, PurePosixPath

from cuts3d_mm.files.paths import is_inside
from cuts3d_mm.files.remote import BucketPath, Place
from cuts3d_mm.labels.coco_schema import CocoName, convert_entry
from cuts3d_mm.labels.json_entries import read_entries

IMAGE_SUFFIXES = frozenset(
    '.bmp .gif .jpeg .jpg .jpe .jp2 .pbm .pgm .png .ppm .tif .tiff .webp'.split()
)
_NAMES_TRIED = 100  # of a COCO JSON, to find its image folder


def list_folder(root: Place) -> Iterable[str]:
    """Names of image files below a folder, and of what there cannot be searched."""
    if isinstance(root, Path):
        return _walk(root)
    return filter(_is_image, root.list_files(recursive=True))


def _walk(root: Path) -> Iterator[str]:
    waiting = ['']
    while waiting:
        below = waiting.pop()
        try:
            entries = list(os.scandir(root / below))
        except OSError:
            if not below:
                raise
            yield below
            continue
        for entry in entries:
            name = f'{below}/{entry.name}' if below else entry.name
            if entry.is_dir(follow_symlinks=False):
                waiting.append(name)
            if _is_image(name) or _is_folder_outside(entry, root):
                yield name


def _is_image(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def _is_folder_outside(entry: os.DirEntry[str], root: Path) -> bool:
    """Whether an entry is a link to a folder outside of `root`; others are searched anyway."""
    if not (entry.is_symlink() and entry.is_dir()):
        return False
    real_root = os.path.realpath(root)
    return os.path.commonpath([real_root, os.path.realpath(entry.path)]) != real_root


def read_coco_names(source: Place) -> tuple[Place, list[str]]:
    """Folder and names of the images of a COCO JSON.

    Raises:
        ValueError: it is none.
    """
    try:
        entries = read_entries(source, ('images',))
        names = [convert_entry(entry, CocoName).file_name for entry in entries]
    except ValueError as error:
        message = f'{source} must be a COCO JSON with images[].file_name: {error}'
        raise ValueError(message) from error
    folders = (source.parent, source.parent / 'images', source.with_suffix(''))
    tried = list(islice((name for name in names if is_inside(name)), _NAMES_TRIED))
    holds_one = (any(_is_file(folder, name) for name in tried) for folder in folders)
    root = next((f for f, holds in zip(folders, holds_one, strict=True) if holds), source.parent)
    return root, [_relative(name, root) for name in names]


def _is_file(folder: Place, name: str) -> bool:
    if isinstance(folder, Path):
        return os.path.isfile(folder / name)
    return (folder / name).is_file()


def read_text_list(source: Place) -> tuple[Place, list[str]]:
    """Folder and names of a list: its own folder, or the common one of absolute paths.

    Raises:
        ValueError: it is no text.
    """
    lines = read_lines(source.read_bytes())
    if lines is None:
        raise ValueError(f'IMAGES must be a folder, a text file or a COCO JSON, got {source}')
    if isinstance(source, BucketPath):
        return source.parent, [_relative(line, source.parent) for line in lines]
    root = source.parent
    straight = [Path(line) for line in lines if '..' not in Path(line).parts]
    is_elsewhere = any(root.absolute() not in path.parents for path in straight)
    if straight and is_elsewhere and all(path.is_absolute() for path in straight):
        root = Path(os.path.commonpath([path.parent for path in straight]))
    return root, [_relative(line, root) for line in lines]


def read_lines(content: bytes) -> list[str] | None:
    """Lines of a text file that hold something; None where it is no text."""
    if b'\0' in content:
        return None
    text = content.decode('utf-8', 'surrogateescape').removeprefix('\ufeff')
    return [line.removesuffix('\r') for line in text.split('\n') if line.strip()]


def without_dot(name: str) -> str:
    """A name without the `./` that `find .` writes."""
    return name.removeprefix('./')


def _relative(name: str, root: Place) -> str:
    """Express a path by the folder that it is below; one that leaves it stays as it is."""
    path = Path(name)
    if isinstance(root, BucketPath):
        name = name.removeprefix(f'{root}/')
    elif path.is_absolute() and '..' not in path.parts and root.absolute() in path.parents:
        return path.relative_to(root.absolute()).as_posix()
    plain = without_dot(name)
    return plain if is_inside(plain) else name
