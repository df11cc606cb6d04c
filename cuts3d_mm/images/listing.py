"""List the images that a command works on, and leave some of them out."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath

from cuts3d_mm.files.atomic import write_whole
from cuts3d_mm.files.paths import is_inside, open_regular, shown
from cuts3d_mm.files.remote import BucketPath, Place
from cuts3d_mm.labels.coco_json import CocoName, read_entries

from .matching import match_names, with_slashes
from .reading import IMAGE_SUFFIXES

# Pictures that are left out, since we decode none of them; whoever has such files is told.
_OTHER_PICTURES = (
    frozenset(
        '.arw .avif .cr2 .cr3 .dds .dng .eps .exr .hdr .heic .heif .hif .ico .jxl .nef .orf .pcx '
        '.pef .psd .raf .raw .rw2 .srw .svg .tga'.split()
    )
    - IMAGE_SUFFIXES
)
_IMAGES = 'IMAGES must be a folder, an image, a text file or a COCO JSON'
_NAMES_TRIED = 100  # names of a COCO JSON that are tried, to find its image folder
_COMMENT = '#'
_HEADER = '# images to leave out, for --exclude'
_SHOWN = 3  # names in a message
# Remedies where the images of a COCO JSON are not near it, by whether a command has --images.
_COPY, BY_OPTION = 'copy it into their folder', '--images DIR gives their folder'


@dataclass(frozen=True)
class ImageList:
    """The images of a run, in the order of their names."""

    root: Place
    names: tuple[str, ...]

    def first(self, limit: int | None) -> ImageList:
        """Keep the first `limit` images; None keeps all."""
        if limit is not None and limit < 1:
            raise ValueError(f'limit must be at least 1 image, got {limit}')
        return ImageList(self.root, self.names[:limit])

    def without(self, excluded: Set[str]) -> ImageList:
        """Leave images out.

        Raises:
            ValueError: an image is not in the list, or no image is left.
        """
        require_known(excluded, self.names)
        left = tuple(name for name in self.names if name not in excluded)
        if not left:
            raise ValueError(f'--exclude must leave an image, it names all {len(self.names)}')
        return ImageList(self.root, left)


def list_images(source: Place, folder: Place | None = None, remedy: str = _COPY) -> ImageList:
    r"""Find the images that a command is to work on.

    A file that is named as an image but cannot be read, such as a named pipe or a link that leads
    out of the folder, is listed too, so that it is recorded as a failure. A name that is not
    UTF-8 is listed with `\xNN` for its bytes. Pictures of a folder that we do not decode, such as
    `.heic`, are left out; a log line says how many there are of each suffix.

    Args:
        source: a folder, searched recursively for image files; an image; a text file with one
            path a line, relative to the file; or a COCO JSON.
        folder: folder of the images of a COCO JSON; None: looked for next to it, and where
            COCO's own layout has it (`annotations/instances_val2017.json`, `val2017/`).
        remedy: advice where it is not found.

    Raises:
        ValueError: there is no image, the list cannot be read, a path is listed twice, or a
            folder is given with something else than a COCO JSON.
    """
    root: Place
    left_out = Counter[str]()
    if folder is not None and (source.suffix != '.json' or source.is_dir()):
        raise ValueError(f'--images is the folder of the images of a COCO JSON, got {source}')
    if source.is_dir():
        root, names = source, list(list_folder(source, left_out))
    elif not source.is_file():
        raise ValueError(f'{_IMAGES}, got {source}')
    elif _is_image(source.name):
        root, names = source.parent, [source.name]
    elif source.suffix == '.json':
        root, names = _read_coco_names(source, folder, remedy)
    else:
        root, names = read_text_list(source)
    counts = ', '.join(f'{count} {suffix}' for suffix, count in sorted(left_out.items()))
    if not names:
        besides = f' but pictures that we do not decode: {counts}' if counts else ''
        raise ValueError(f'IMAGES must hold at least one image, found none in {source}{besides}')
    if counts:
        logging.getLogger(__name__).warning(
            f'{source}: left out pictures that we do not decode: {counts}; convert them to .png '
            'or .jpg'
        )
    names = sorted(shown(name) for name in names)
    twice = first_repeated(names)
    if twice is not None:
        raise ValueError(f'every image must be listed once, got {twice} more than once')
    return ImageList(root, tuple(names))


def first_repeated(names: Sequence[str]) -> str | None:
    """Return the alphabetically first name that occurs more than once."""
    return next((a for a, b in pairwise(sorted(names)) if a == b), None)


def list_folder(root: Place, left_out: Counter[str]) -> Iterator[str]:
    """Give the names of image files below a folder, and of folders that cannot be searched.

    Pictures that are left out are counted in `left_out`, by their suffix.
    """
    if isinstance(root, Path):
        found = _walk(root)
    else:
        found = ((name, False) for name in root.list_files(recursive=True))
    for name, is_odd in found:
        suffix = PurePosixPath(name).suffix.lower()
        if is_odd or suffix in IMAGE_SUFFIXES:
            yield name
        elif suffix in _OTHER_PICTURES:
            left_out[suffix] += 1


def _walk(root: Path) -> Iterator[tuple[str, bool]]:
    """Give all names below a folder; True: a folder that cannot be searched or lies elsewhere."""
    waiting = ['']
    while waiting:
        below = waiting.pop()
        try:
            entries = list(os.scandir(root / below))
        except OSError:
            if not below:
                raise
            yield below, True
            continue
        for entry in entries:
            name = f'{below}/{entry.name}' if below else entry.name
            if entry.is_dir(follow_symlinks=False):
                waiting.append(name)
            yield name, not _is_image(name) and _is_folder_outside(entry, root)


def _is_image(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def _is_folder_outside(entry: os.DirEntry[str], root: Path) -> bool:
    """Whether an entry is a link to a folder outside of `root`; folders inside are searched."""
    if not (entry.is_symlink() and os.path.isdir(entry.path)):  # a link may lead to itself
        return False
    real_root = os.path.realpath(root)
    return os.path.commonpath([real_root, os.path.realpath(entry.path)]) != real_root


def _read_coco_names(source: Place, folder: Place | None, remedy: str) -> tuple[Place, list[str]]:
    """Find the image folder of a COCO JSON, and the names of its images there.

    Without `folder`, it is the first of some with an image of the file.
    """
    try:
        names = [one.read(CocoName).file_name for one in read_entries(source, ('images',))]
    except ValueError as error:
        message = f'{source} must be a COCO JSON with images[].file_name: {error}'
        raise ValueError(message) from error
    folders = [folder] if folder is not None else _image_folders(source)
    tried = names[:_NAMES_TRIED]
    inside = [name for name in tried if is_inside(name)]
    for root in folders:
        # Absolute names count where all names are: others lead out, or are those of a folder.
        plain = inside or filter(is_inside, [_relative(name, root) for name in tried])
        is_there = [
            os.path.isfile(root / name) if isinstance(root, Path) else (root / name).is_file()
            for name in plain
        ]
        if len(tried) == sum(is_there):
            return root, [_relative(name, root) for name in names]
        if any(is_there):
            return root, _as_in(root, names, source)
    for root in folders if isinstance(source, Path) else ():
        if root.is_dir():
            flat = root in (source.parent, source.parent.parent) and folder is None
            matched = _as_in(root, names, source, flat)
            if 2 * sum(new != old for new, old in zip(matched, names, strict=True)) > len(names):
                return root, matched
    raise ValueError(
        f'{source} must name images that are there, none of the first {len(tried)}, such as '
        f'{shown(tried[0])}, is in {", ".join(map(str, folders))}; {remedy}'
    )


def _image_folders(source: Place) -> list[Place]:
    """Folders that tools put the images of a COCO JSON into, such as val2017/ of COCO itself."""
    stem = source.with_suffix('').name
    subset = stem.rpartition('_')[2]  # instances_val2017
    found: list[Place] = []
    for folder in (source.parent, source.parent.parent):
        found += [folder, *(folder / name for name in ('images', stem, subset))]
        found.append(folder / 'images' / subset)
    return list(dict.fromkeys(found))


def _as_in(root: Place, names: list[str], source: Place, flat: bool = False) -> list[str]:
    """Name images as they are named in a folder; names that nothing matches stay as they are.

    With `flat`, only files directly in the folder are looked at.
    """
    if flat and isinstance(root, Path):
        there = [entry.name for entry in os.scandir(root) if _is_image(entry.name)]
    else:
        there = list(list_folder(root, Counter()))
    plain = [_relative(name, root) for name in names]
    inside = [name for name in plain if is_inside(with_slashes(name))]
    found = match_names(inside, there, source) if there else {}
    return [found.get(one, name) for one, name in zip(plain, names, strict=True)]


def read_text_list(source: Place) -> tuple[Place, list[str]]:
    """Read the names in a list; their folder is the list's own, or shared by absolute paths.

    Raises:
        ValueError: the file is no text.
    """
    lines = read_lines(source.read_bytes())
    if lines is None:
        raise ValueError(f'{_IMAGES}, got {source}')
    if isinstance(source, BucketPath):
        return source.parent, [_relative(line, source.parent) for line in lines]
    root = source.parent
    straight = [Path(line) for line in lines if '..' not in Path(line).parts]
    is_elsewhere = any(root.absolute() not in path.parents for path in straight)
    if straight and is_elsewhere and all(path.is_absolute() for path in straight):
        root = Path(os.path.commonpath([path.parent for path in straight]))
    return root, [_relative(line, root) for line in lines]


def read_lines(content: bytes) -> list[str] | None:
    """Give the lines of a text file that are not empty; None if the file is no text."""
    if b'\0' in content:
        return None
    text = content.decode('utf-8', 'surrogateescape').removeprefix('\ufeff')
    return [line.removesuffix('\r') for line in text.split('\n') if line.strip()]


def _relative(name: str, root: Place) -> str:
    """Express a path relative to a folder that holds it; any other path stays as it is."""
    path = Path(name)
    if isinstance(root, BucketPath):
        name = name.removeprefix(f'{root}/')
    elif path.is_absolute() and '..' not in path.parts and root.absolute() in path.parents:
        return path.relative_to(root.absolute()).as_posix()
    plain = name.removeprefix('./')  # which `find .` writes
    return plain if is_inside(plain) else name


def read_exclusions(path: Path) -> frozenset[str]:
    """Read a list of images to leave out, a name a line as in a label store.

    Names are relative to the image folder, with forward slashes. Empty lines and lines that begin
    with `#` are skipped; `./#a.jpg` is an image.

    Raises:
        ValueError: the file is no text.
        OSError: the file cannot be read.
    """
    with open_regular(path) as file:
        lines = read_lines(file.read())
    if lines is None:
        raise ValueError(f'--exclude must be a text file with one image name a line, got {path}')
    names = (line.removeprefix('./') for line in lines if not line.startswith(_COMMENT))
    return frozenset(map(shown, names))


def write_exclusions(path: Path, names: Iterable[str]) -> None:
    """Write a list of images to leave out, in the order of their names; comments stay."""
    comments = [_HEADER]
    if path.exists():
        text = path.read_text(encoding='utf-8', errors='surrogateescape')
        comments += [line for line in text.splitlines() if line.startswith(_COMMENT)]
    lines = (f'./{name}' if name.startswith(_COMMENT) else name for name in sorted(names))
    text = '\n'.join([*dict.fromkeys(comments), *lines, ''])
    write_whole(path, text.encode('utf-8', errors='surrogateescape'))


def require_known(excluded: Collection[str], known: Collection[str]) -> None:
    """Check that all images to leave out are known.

    Raises:
        ValueError: some images are not; the message names up to three of them.
    """
    unknown = sorted(set(excluded) - set(known))
    if unknown:
        rest = f' and {len(unknown) - _SHOWN} others' if len(unknown) > _SHOWN else ''
        raise ValueError(
            f'--exclude must name images that are there, relative to their folder; '
            f'{len(unknown)} of {len(excluded)} are not: {", ".join(unknown[:_SHOWN])}{rest}'
        )
