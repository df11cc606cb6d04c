"""Read depth maps of several formats, their size before their data."""

from __future__ import annotations

import math
import re
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cuts3d_mm.arrays import Float

# 8192 x 8192: more than any image needs whose depth is brought to a patch grid. With 8 bytes a
# pixel and the copy in float32, one map takes 0.8 GB at most.
MAX_DEPTH_PIXELS = 2**26
_MAX_PFM_HEADER = 128  # bytes
_PFM_HEADER = re.compile(
    rb'(P[fF])\s+(\d{1,9})\s+(\d{1,9})\s+([-+]?\d{1,20}(?:\.\d{0,20})?(?:[eE][-+]?\d{1,3})?)\s'
)
_PNG_MODES = {'1', 'L', 'I;16', 'I;16B', 'I'}  # one channel, from 1 to 16 bits


class UnusableDepth(ValueError):
    """A file does not hold a depth map; the message ends a sentence that names the file."""


def read_depth(path: Path) -> Float:
    """Read one depth map as (H, W) float32, values as stored.

    Raises:
        UnusableDepth: the file cannot be read, does not hold one map, or its map is too large.
    """
    read = {'.npy': _read_npy_file, '.npz': _read_npz, '.pfm': _read_pfm}.get(path.suffix.lower())
    try:
        depth = (read or _read_png)(path)
    except UnusableDepth:
        raise
    # All that NumPy, zipfile and Pillow raise on broken files.
    except (
        OSError,
        ValueError,
        TypeError,
        LookupError,
        EOFError,
        SyntaxError,
        RuntimeError,
        MemoryError,
        OverflowError,
        zlib.error,
        zipfile.BadZipFile,
        Image.DecompressionBombError,
    ) as error:
        reason = str(error) or type(error).__name__
        raise UnusableDepth(f'cannot be read: {reason}') from error
    with np.errstate(over='ignore'):  # what 32 bits cannot hold becomes inf: not valid
        return depth.astype(np.float32)


def _read_npy_file(path: Path) -> NDArray[Any]:
    with path.open('rb') as file:
        return _read_npy(file)


def _read_npz(path: Path) -> NDArray[Any]:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if len(members) != 1:
            raise UnusableDepth(f'must hold one array, holds {len(members)}')
        if members[0].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            # Others cannot be unpacked a limited number of bytes at a time.
            raise UnusableDepth('must be packed as numpy.savez_compressed does, or not at all')
        if members[0].flag_bits & 1:
            raise UnusableDepth('must not be encrypted')
        with archive.open(members[0]) as member:
            return _read_npy(member)


def _read_npy(file: IO[bytes]) -> NDArray[Any]:
    formats = np.lib.format
    readers = {(1, 0): formats.read_array_header_1_0, (2, 0): formats.read_array_header_2_0}
    version = formats.read_magic(file)
    if version not in readers:
        raise UnusableDepth(f'cannot be read: must be of NPY version 1.0 or 2.0, is {version}')
    shape, is_fortran, dtype = readers[version](file)
    if dtype.hasobject:
        raise UnusableDepth('cannot be read: must hold numbers, holds pickled objects')
    # A channel axis of length 1 comes first or last.
    plane = shape[1:] if len(shape) == 3 and shape[0] == 1 else shape
    plane = plane[:2] if len(plane) == 3 and plane[2] == 1 else plane
    if len(plane) != 2 or dtype.kind not in 'fiu':
        raise UnusableDepth(f'must be (H, W) numbers, is {shape} of {dtype}')
    num_bytes = _check_size(*plane) * dtype.itemsize
    content = file.read(num_bytes + 1)  # one more, so that a checksum at the end is looked at
    if len(content) != num_bytes:
        raise UnusableDepth(f'must hold {num_bytes} bytes after its header, as that says')
    return np.frombuffer(content, dtype).reshape(plane, order='F' if is_fortran else 'C')


def _read_pfm(path: Path) -> NDArray[Any]:
    with path.open('rb') as file:
        header = _PFM_HEADER.match(file.read(_MAX_PFM_HEADER))
        scale = 0.0 if header is None else float(header[4])
        if header is None or not scale or not math.isfinite(scale):
            raise UnusableDepth('cannot be read: must begin with Pf, width, height and scale')
        if header[1] != b'Pf':
            raise UnusableDepth('must be (H, W) numbers, has colours')
        width, height = int(header[2]), int(header[3])
        num_bytes = 4 * _check_size(height, width)
        file.seek(header.end())
        content = file.read(num_bytes)
    if len(content) != num_bytes:
        raise UnusableDepth(f'must hold {num_bytes} bytes after its header, as that says')
    values = np.frombuffer(content, '<f4' if scale < 0 else '>f4')
    # Rows go from bottom to top; the values are stored times the scale, as OpenCV has it.
    return values.reshape(height, width)[::-1] / np.float32(abs(scale))


def _read_png(path: Path) -> NDArray[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # Pillow warns of large and of odd files
        with Image.open(path, formats=['PNG']) as image:  # reads the header alone
            if image.mode not in _PNG_MODES:
                raise UnusableDepth(f'must be (H, W) numbers, has the channels {image.mode}')
            _check_size(image.height, image.width)
            image.load()
            return np.asarray(image.convert('L') if image.mode == '1' else image)


def _check_size(height: int, width: int) -> int:
    """Number of pixels of a map."""
    num_pixels = height * width
    if height < 1 or width < 1 or num_pixels > MAX_DEPTH_PIXELS:
        raise UnusableDepth(
            f'must have from 1 to {MAX_DEPTH_PIXELS} pixels, has {height} x {width}; '
            'make a larger map smaller'
        )
    return num_pixels
