"""Decode image files, and record why a file cannot be decoded."""

from __future__ import annotations

import hashlib
import math
import os
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from PIL import Image, ImageOps

from cuts3d_mm.arrays import Float, Pixels
from cuts3d_mm.files.paths import BadName, open_regular, path_inside, require_inside
from cuts3d_mm.files.remote import BucketPath, Place

if TYPE_CHECKING:
    from cuts3d_mm.labels.record import ImageRecord

UNREADABLE = 0.01  # share of the images of a training that may be unreadable
_OPEN_FILE = re.compile(r' <_io\.[^>]*>')
_LARGEST_OBJECT = 2**31  # bytes; an object of a bucket is read as a whole
_BLOCKS, _BLOCK_BYTES = 16, 2**12  # the part of a file that its digest is made of
_ESCAPED_BYTE = re.compile(r'\\x[0-9a-f]{2}')

# The bytes of a file choose the decoder, whatever its name says. Pillow has 43, some of which
# start other programs. MPO, which stereo cameras write, is opened as a JPEG.
_HAS_AVIF = find_spec('PIL.AvifImagePlugin') is not None
IMAGE_FORMATS = (
    *('BMP', 'GIF', 'JPEG', 'JPEG2000', 'PNG', 'PPM', 'TIFF', 'WEBP'),
    *(['AVIF'] if _HAS_AVIF else ()),
)
# Names that are listed as images.
IMAGE_SUFFIXES = frozenset(
    '.bmp .gif .jfif .jpeg .jpg .jpe .jp2 .pbm .pgm .png .ppm .tif .tiff .webp'.split()
) | ({'.avif'} if _HAS_AVIF else set())


class ImageFailure(Exception):
    """An image cannot be used; the run goes on and records the reason."""


@dataclass(frozen=True)
class NamedImage:
    """A decoded image and its identity."""

    name: str  # path relative to the image folder, with forward slashes
    pixels: Pixels  # (H, W, 3) RGB in the stored pixel grid
    depth: Float | None = None  # (h, w) finite, larger is farther; None: from the depth source
    digest: bytes | None = None  # digest_file() of the file; None: no file
    prepared: Any = None  # what `prepare` of the labeller made of it; None: nothing yet


def read_named_image(root: Place, name: str) -> Pixels:
    """Read an image of a list by its name, as `read_image` does.

    Raises:
        ImageFailure: as for `read_image`, or the name leads out of the folder.
        BucketError: the bucket does not answer, which says nothing about the image.
    """
    with open_named_image(root, name) as file:
        return read_image(file)


def read_labelled_image(root: Place, record: ImageRecord) -> Pixels:
    """Read the image that labels are of, (H, W, 3) RGB.

    Raises:
        ImageFailure: the image cannot be read or has another size than its labels.
    """
    pixels = read_named_image(root, record.name)
    if pixels.shape[:2] != record.image_hw:
        # A command that only reads starts faster without it.
        from cuts3d_mm.labels.record import turning_advice

        raise ImageFailure(
            f'image must be {record.image_hw} (height, width) as labelled, got {pixels.shape[:2]}'
            f'{turning_advice(record.image_hw, pixels.shape[:2])}'
        )
    return pixels


@contextmanager
def open_named_image(root: Place, name: str) -> Iterator[BinaryIO]:
    """Open the file of an image of a list, for a block that decodes it.

    Raises:
        ImageFailure: the file cannot be opened, or the name leads out of the folder.
        BucketError: the bucket does not answer, which says nothing about the image.
    """
    try:
        if isinstance(root, BucketPath):
            path = root / require_inside(name)
            file: BinaryIO = BytesIO(path.read_bytes(_LARGEST_OBJECT))
        else:
            file = open_regular(path_inside(root, name))
    except (BadName, OSError, ValueError) as error:
        reason = _reason(root, name) if isinstance(root, Path) else None
        said = error if isinstance(error, BadName) else f'cannot be read as an image: {error}'
        raise ImageFailure(reason or str(said)) from error
    with file:
        yield file


def digest_file(file: BinaryIO) -> bytes:
    """Compute a digest, 16 bytes, of the size of a file and of 16 blocks spread over it.

    A replaced image has another one, since compressed files differ throughout; in files of raw
    pixels, the blocks lie in the middle of the picture as well.

    Raises:
        ImageFailure: the file cannot be read.
    """
    try:
        size = file.seek(0, os.SEEK_END)
        digest = hashlib.blake2b(str(size).encode(), digest_size=16)
        for block in range(_BLOCKS):
            file.seek(max(size - _BLOCK_BYTES, 0) * block // (_BLOCKS - 1))
            digest.update(file.read(_BLOCK_BYTES))
        file.seek(0)
    except OSError as error:
        raise ImageFailure(f'cannot be read as an image: {error}') from error
    return digest.digest()


def read_image(
    path: Path | BinaryIO, most_pixels: float = math.inf, upright: bool = False
) -> Pixels:
    """Decode an image to (H, W, 3) uint8 RGB in its stored pixel grid.

    Alpha is dropped; values of 16 bits, or of 10, 12 or 14 in 16, are scaled to 8 bits.

    Args:
        path: path of a regular file, or an open file.
        most_pixels: number of pixels that an image may have.
        upright: whether the image is turned as its EXIF orientation says. By default it is not,
            so that masks fit the stored pixels, as COCO's do.

    Raises:
        ImageFailure: the file cannot be read, is no regular file, is no image of IMAGE_FORMATS,
            is truncated, or the image is larger than Pillow's limit of about 179 megapixels.
    """
    with open_image(path) as image:
        if image.width * image.height > most_pixels:
            raise ImageFailure(
                f'an image must have at most {most_pixels / 1e6:.0f} megapixels, '
                f'has {image.width} x {image.height}'
            )
        image.load()
        return np.asarray(_to_rgb(ImageOps.exif_transpose(image) if upright else image))


def read_image_hw(path: Path | BinaryIO) -> tuple[int, int]:
    """Read the size of an image, (height, width), from the start of its file.

    Raises:
        ImageFailure: the file cannot be opened as an image.
    """
    with open_image(path) as image:
        return image.height, image.width


@contextmanager
def open_image(
    path: Path | BinaryIO, formats: tuple[str, ...] = IMAGE_FORMATS
) -> Iterator[Image.Image]:
    """Open an image for a block that decodes it; whatever a decoder raises is an ImageFailure.

    Every image from outside is decoded in such a block. Pillow reads the size at first, and the
    pixels when the block asks for them.

    Args:
        path: path of a regular file, or an open file.
        formats: formats of Pillow that the file may have.

    Raises:
        ImageFailure: the file cannot be opened, is of another format, or the block fails.
    """
    try:
        with ExitStack() as opened, _without_warnings():
            if isinstance(path, Path):
                path = opened.enter_context(open_regular(path))
            yield opened.enter_context(Image.open(path, formats=formats))
    except ImageFailure:
        raise
    # No list of errors is whole: decoders raise RuntimeError, AttributeError, ZeroDivisionError.
    except Exception as error:
        # Pillow names the open file by a number that differs from run to run.
        reason = _OPEN_FILE.sub('', str(error)) or type(error).__name__
        raise ImageFailure(f'cannot be read as an image: {reason}') from error


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Silence Pillow, which warns of large and of odd files.

    Filters belong to the whole process: a program that reads in other threads sets them once.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        yield


def check_rgb(pixels: Pixels) -> None:
    """Check that an array is an image.

    Raises:
        ValueError: the array has another shape or type.
    """
    got = f'a {type(pixels).__name__}'
    if isinstance(pixels, np.ndarray):
        got = f'{pixels.shape} {pixels.dtype}'
        if pixels.shape[2:] == (3,) and pixels.size > 0 and pixels.dtype == np.uint8:
            return
    raise ValueError(f'image must be (H, W, 3) uint8 RGB, got {got}')


def resize_rgb(pixels: Pixels, image_hw: tuple[int, int]) -> Pixels:
    """Resize (H, W, 3) uint8 pixels to a size by Lanczos, as MaskCut does."""
    height, width = image_hw
    resized = Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(resized)


def _reason(root: Path, name: str) -> str | None:
    """Why a listed file cannot be read, where the error does not say it well."""
    path = str(root / name)
    if _ESCAPED_BYTE.search(name) and not os.path.lexists(path):
        return 'file name must be UTF-8, bytes that are not are shown as \\xNN; rename the file'
    if os.path.isdir(path) and not os.access(path, os.R_OK | os.X_OK):
        return 'folder cannot be read: permission denied'
    return None


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith('I;16'):
        values = np.asarray(image)
        # Cameras write 10, 12 or 14 bits into 16.
        bits = min(16, max(8, -(-int(values.max()).bit_length() // 2) * 2))
        return Image.fromarray((values >> (bits - 8)).astype(np.uint8)).convert('RGB')
    if image.mode in ('I', 'F'):
        values = np.nan_to_num(np.asarray(image, dtype=np.float64))
        top = max(values.max(), 65535.0 if image.mode == 'I' else 1.0)
        return Image.fromarray((values.clip(0) / top * 255).astype(np.uint8)).convert('RGB')
    if 'transparency' in image.info:
        image = image.convert('RGBA')
    return image.convert('RGB')


def most_unreadable(num_images: int, share: float = UNREADABLE) -> int:
    """Count how many images of a training may be unreadable: a share of them, or one."""
    return max(1, int(share * num_images))
