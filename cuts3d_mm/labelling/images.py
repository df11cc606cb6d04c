"""Where images come from and how one is read."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

IMAGE_SUFFIXES = frozenset(
    '.bmp .gif .jpeg .jpg .jpe .jp2 .pbm .pgm .png .ppm .tif .tiff .webp'.split()
)

# What Pillow raises on broken files, beside OSError.
_DECODE_ERRORS = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    IndexError,
    OverflowError,
    MemoryError,
    Image.DecompressionBombError,
)


class ImageFailure(Exception):
    """One image cannot be used; the run goes on and records the reason."""


@dataclass(frozen=True)
class NamedImage:
    """A decoded image and its identity."""

    name: str  # path relative to the image folder, with forward slashes
    pixels: NDArray[np.uint8]  # (H, W, 3) RGB in the stored pixel grid


@dataclass(frozen=True)
class ImageList:
    """The images of a run, in the order of their names."""

    root: Path
    names: tuple[str, ...]

    def first(self, limit: int | None) -> ImageList:
        """Keep the first `limit` images; None keeps all."""
        if limit is not None and limit < 1:
            raise ValueError(f'limit must be at least 1 image, got {limit}')
        return ImageList(self.root, self.names[:limit])


def list_images(source: Path) -> ImageList:
    """Find the images that a command is to work on.

    Args:
        source: a folder, searched recursively for image files; a text file with one path a
            line, relative to the file; or a COCO JSON, whose `file_name`s are looked up
            beside it, in `images/` or in a folder of its name.

    Raises:
        ValueError: nothing there, an unreadable list, a path listed twice, or a path that
            leaves the folder.
    """
    if source.is_dir():
        paths = (p for p in source.rglob('*') if p.suffix.lower() in IMAGE_SUFFIXES)
        root, names = source, [p.relative_to(source).as_posix() for p in paths if p.is_file()]
    elif not source.is_file():
        raise ValueError(f'IMAGES must be a folder, a text file or a COCO JSON, got {source}')
    elif source.suffix == '.json':
        root, names = _read_coco_names(source)
    else:
        lines = source.read_text(encoding='utf-8').splitlines()
        root, names = _common_root(source.parent, [line for line in lines if line.strip()])
    if not names:
        raise ValueError(f'IMAGES must hold at least one image, found none in {source}')
    undecodable = next((name for name in names if not _is_utf8(name)), None)
    if undecodable is not None:
        raise ValueError(f'image names must be UTF-8, got {undecodable!r}; rename the file')
    if len(set(names)) != len(names):
        twice = next(name for name in sorted(names) if names.count(name) > 1)
        raise ValueError(f'every image must be listed once, got {twice} more than once')
    return ImageList(root, tuple(sorted(names)))


def read_image(path: Path | BinaryIO) -> NDArray[np.uint8]:
    """Decode an image to (H, W, 3) uint8 RGB in its stored pixel grid.

    The EXIF orientation is not applied, so that masks fit the stored pixels, as COCO's do.
    Alpha is dropped, 16-bit values are brought to 8 bit.

    Raises:
        ImageFailure: the file cannot be read, is no image, is truncated, or is larger than
            Pillow's limit of about 179 megapixels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # Pillow warns of large and of odd files
            with Image.open(path) as image:
                image.load()
                return np.asarray(_to_rgb(image))
    except _DECODE_ERRORS as error:
        reason = str(error) or type(error).__name__
        raise ImageFailure(f'cannot be read as an image: {reason}') from error


def resize_rgb(pixels: NDArray[np.uint8], image_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize (H, W, 3) uint8 pixels with Lanczos, as MaskCut does; the aspect is not kept."""
    height, width = image_hw
    resized = Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(resized)


def _is_utf8(name: str) -> bool:
    try:
        name.encode('utf-8')
    except UnicodeEncodeError:
        return False
    return True


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith('I;16'):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert('RGB')
    if image.mode in ('I', 'F'):
        values = np.nan_to_num(np.asarray(image, dtype=np.float64))
        top = max(values.max(), 65535.0 if image.mode == 'I' else 1.0)
        return Image.fromarray((values.clip(0) / top * 255).astype(np.uint8)).convert('RGB')
    return (
        image.convert('RGBA').convert('RGB')
        if 'transparency' in image.info
        else (image.convert('RGB'))
    )


def _read_coco_names(source: Path) -> tuple[Path, list[str]]:
    try:
        images = json.loads(source.read_text(encoding='utf-8'))['images']
        names = [str(image['file_name']) for image in images]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f'{source} must be a COCO JSON with images[].file_name') from error
    folders = (source.parent, source.parent / 'images', source.with_suffix(''))
    first = names[0] if names else ''
    root = next((folder for folder in folders if (folder / first).is_file()), source.parent)
    return _common_root(root, names)


def _common_root(folder: Path, paths: list[str]) -> tuple[Path, list[str]]:
    """Express paths relative to a folder, or to their deepest common one if they lie outside."""
    resolved = [(folder / path).absolute() for path in paths]
    root = folder.absolute()
    if any(root not in path.parents for path in resolved):
        root = Path(*_common_parts(path.parent for path in resolved))
    return root, [path.relative_to(root).as_posix() for path in resolved]


def _common_parts(folders: Iterator[Path]) -> tuple[str, ...]:
    shared = next(folders).parts
    for folder in folders:
        same = [a == b for a, b in zip(shared, folder.parts, strict=False)]
        shared = shared[: same.index(False) if False in same else len(same)]
    return shared
