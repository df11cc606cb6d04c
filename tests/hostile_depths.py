"""Depth maps that are broken or made to do harm, one of each kind."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

SIGNATURE = b'\x89PNG\r\n\x1a\n'


def _npy(array, **options):
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def _npy_header(descr, shape, version=b'\x01\x00'):
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b'\x93NUMPY' + version + struct.pack('<H', len(text)) + text


def _npz(*members, compression=zipfile.ZIP_DEFLATED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w', compression) as archive:
        for index, content in enumerate(members):
            archive.writestr(f'arr_{index}.npy', content)
    return file.getvalue()


def _chunk(kind, content):
    checksum = struct.pack('>I', zlib.crc32(kind + content))
    return struct.pack('>I', len(content)) + kind + content + checksum


def _png(width, height, content, depth=16, color=0):
    size = struct.pack('>IIBBBBB', width, height, depth, color, 0, 0, 0)
    return SIGNATURE + _chunk(b'IHDR', size) + _chunk(b'IDAT', content) + _chunk(b'IEND', b'')


def _png_of(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, 'PNG')
    return file.getvalue()


def _with(content, position, value):
    changed = bytearray(content)
    changed[position] = value
    return bytes(changed)


def _encrypted(archive):
    """Set the bit that says "encrypted" in both headers of the first member."""
    content = bytearray(archive)
    content[6] |= 1
    content[content.index(b'PK\x01\x02') + 8] |= 1
    return bytes(content)


def _corrupt(archive):
    """Destroy the start of the deflated stream of the first member."""
    content = bytearray(archive)
    start = (
        30 + struct.unpack_from('<H', content, 26)[0] + struct.unpack_from('<H', content, 28)[0]
    )
    content[start : start + 8] = b'\xff' * 8
    return bytes(content)


@cache
def hostile_depth_maps() -> dict[str, tuple[str, bytes]]:
    """Kind -> suffix and content; none of them can be used."""
    good = np.arange(1, 1201, dtype=np.float32).reshape(30, 40)
    deep = _png_of(good.astype(np.uint16))
    archive = _npz(_npy(good))
    pfm = b'Pf\n40 30\n-1\n' + good.tobytes()
    return {
        'empty file': ('.npy', b''),
        'png with a broken stream': ('.png', _png(40, 30, b'\x78\x9c' + b'\xff' * 50)),
        'png cut short': ('.png', deep[: len(deep) // 2]),
        'png that promises gigabytes': ('.png', _png(60_000, 60_000, zlib.compress(b'\0' * 99))),
        'png without a pixel': ('.png', _png(0, 30, zlib.compress(b''))),
        'png with colours': ('.png', _png_of(np.zeros((30, 40, 3), np.uint8))),
        'npy of objects': ('.npy', _npy(np.full((2, 2), {'a': 1}, object), allow_pickle=True)),
        'npy that promises gigabytes': ('.npy', _npy_header("'<f8'", (200_000, 200_000))),
        'npy that promises beyond 64 bits': ('.npy', _npy_header("'<f8'", (2**40, 2**40))),
        'npy cut short': ('.npy', _npy(good)[:-9]),
        'npy with one axis': ('.npy', _npy(good[0])),
        'npy with four axes': ('.npy', _npy(good[None, None])),
        'npy without a pixel': ('.npy', _npy(good[:0])),
        'npy of complex numbers': ('.npy', _npy(good.astype(np.complex64))),
        'npy of records': ('.npy', _npy(np.zeros((3, 4), [('x', 'f4')]))),
        'npy of text': ('.npy', _npy(np.full((3, 4), 'deep'))),
        'npy of NaN only': ('.npy', _npy(np.full((30, 40), np.nan))),
        'npy beyond 32-bit floats': ('.npy', _npy(np.full((30, 40), 1e300))),
        'npy with a nested header': ('.npy', _npy_header('-' * 9000 + '1', (3, 4))),
        'npy with a negative size': ('.npy', _npy_header("'<f4'", (-3, -4)) + bytes(48)),
        'npz cut short': ('.npz', archive[: len(archive) // 2]),
        'npz that is encrypted': ('.npz', _encrypted(archive)),
        'npz with a broken stream': ('.npz', _corrupt(archive)),
        'npz with a wrong checksum': ('.npz', _with(_npz(_npy(good), compression=0), 600, 7)),
        'npz of two arrays': ('.npz', _npz(_npy(good), _npy(good))),
        'npz without an array': ('.npz', _npz()),
        'npz of another file': ('.npz', _npz(b'not an array')),
        'npz of a rare compression': ('.npz', _npz(_npy(good), compression=zipfile.ZIP_LZMA)),
        'npz that promises gigabytes': ('.npz', _npz(_npy_header("'<f4'", (60_000, 60_000)))),
        'npz that unpacks to more than it says': ('.npz', _npz(_npy(good) + bytes(2**26))),
        'pfm that promises gigabytes': ('.pfm', b'Pf\n99999999 99999999\n-1\n' + bytes(64)),
        'pfm with a size in words': ('.pfm', b'Pf\nforty thirty\n-1\n' + good.tobytes()),
        'pfm with a long size': ('.pfm', b'Pf\n' + b'9' * 100_000),
        'pfm with colours': ('.pfm', b'PF\n40 30\n-1\n' + bytes(3 * 4800)),
        'pfm with a scale of 0': ('.pfm', b'Pf\n40 30\n0\n' + good.tobytes()),
        'pfm cut short': ('.pfm', pfm[:-5]),
    }


def write_hostile_depth(folder: Path, name: str, kind: str) -> None:
    """Put one of them in the place of the depth map of an image."""
    suffix, content = hostile_depth_maps()[kind]
    path = (folder / name).with_suffix(suffix)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
