"""Images and depth maps of every format that we read, damaged at random."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from helpers.drawn import photo
from PIL import Image, features

_HW = (24, 36)
_WHOLE = [
    b'\0' * 4,
    b'\xff' * 4,
    b'\x7f\xff\xff\xff',
    b'\xff\xff\xff\x7f',
    b'\0\0\0\1',
    b'\1\0\0\0',
]
_DEPTH_FORMATS = ('.npy', '.npz', '.pfm', '.png')


def postscript() -> bytes:
    """A drawing that Pillow would hand to Ghostscript."""
    return b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 36 24\n0 0 moveto 30 20 lineto stroke\n'


def image_files(rng: np.random.Generator) -> dict[str, bytes]:
    """Content of an image by what it is."""
    pixels = photo(rng, _HW)
    ways = {
        'bmp': ('BMP', {}),
        'gif': ('GIF', {}),
        'jpeg': ('JPEG', {}),
        'progressive jpeg': ('JPEG', {'progressive': True}),
        'jpeg 2000': ('JPEG2000', {}),
        'png': ('PNG', {}),
        'ppm': ('PPM', {}),
        'tiff': ('TIFF', {}),
        'tiff by deflate': ('TIFF', {'compression': 'tiff_deflate'}),
        'tiff by lzw': ('TIFF', {'compression': 'tiff_lzw'}),
        'webp': ('WEBP', {}),
        'webp without loss': ('WEBP', {'lossless': True}),
    }
    if features.check('avif'):
        ways['avif'] = ('AVIF', {})
    found = {name: _saved(Image.fromarray(pixels), *way) for name, way in ways.items()}
    grey = Image.fromarray(pixels[..., 0])
    found['palette png'] = _saved(Image.fromarray(pixels).quantize(8), 'PNG', {})
    found['ascii pgm'] = b'P2\n4 3\n255\n' + b' '.join(b'%d' % n for n in range(12))
    found['tiff of floats'] = _saved(Image.fromarray(pixels[..., 0].astype('f4')), 'TIFF', {})
    found['group 4 tiff'] = _saved(grey.convert('1'), 'TIFF', {'compression': 'group4'})
    moving = {'save_all': True, 'append_images': [Image.fromarray(pixels[::-1])]}
    found['mpo'] = _saved(Image.fromarray(pixels), 'MPO', moving)
    found['moving png'] = _saved(Image.fromarray(pixels), 'PNG', moving)
    found['moving gif'] = _saved(Image.fromarray(pixels), 'GIF', moving)
    return found


def depth_files(rng: np.random.Generator) -> dict[str, bytes]:
    """Content of a depth map by its suffix."""
    depth = rng.uniform(1, 9, _HW).astype(np.float32)
    npy, npz = io.BytesIO(), io.BytesIO()
    np.save(npy, depth)
    np.savez_compressed(npz, depth)
    deep = Image.fromarray((depth * 1000).astype(np.uint16))
    pfm = b'Pf\n%d %d\n-1\n' % _HW[::-1] + depth.tobytes()
    contents = npy.getvalue(), npz.getvalue(), pfm, _saved(deep, 'PNG', {})
    return dict(zip(_DEPTH_FORMATS, contents, strict=True))


def mutations(
    files: dict[str, bytes], count: int, rng: np.random.Generator
) -> Iterator[tuple[str, bytes]]:
    """Damage files in turn: bytes, numbers, cuts, parts of others; half of the PNGs stay valid."""
    names = sorted(files)
    for index in range(count):
        name = names[index % len(names)]
        content = bytearray(files[name])
        for _ in range(int(rng.integers(1, 5))):
            _damage(content, files[names[int(rng.integers(len(names)))]], rng)
        yield name, _with_checksums(bytes(content)) if rng.random() < 0.5 else bytes(content)


def _damage(content: bytearray, other: bytes, rng: np.random.Generator) -> None:
    # Half of all damages hit the head, which says how to read the rest.
    end = min(len(content), 200) if rng.random() < 0.5 else len(content)
    at = int(rng.integers(max(1, end)))
    kind = int(rng.integers(6))
    if kind == 0:
        content[at : at + 1] = bytes([int(rng.integers(256))])
    elif kind == 1:
        content[at : at + 1] = bytes(
            [(content[at] if at < len(content) else 0) ^ 1 << int(rng.integers(8))]
        )
    elif kind == 2:
        content[at : at + 4] = _WHOLE[int(rng.integers(len(_WHOLE)))]
    elif kind == 3:
        del content[at : at + int(rng.integers(1, 40))]
    elif kind == 4:
        del content[max(at, 12) :]
    else:
        start = int(rng.integers(len(other)))
        content[at:at] = other[start : start + int(rng.integers(1, 60))]


def _with_checksums(content: bytes) -> bytes:
    """Correct the checksums of a PNG, so that a damage reaches what reads its chunks."""
    if content[:8] != b'\x89PNG\r\n\x1a\n':
        return content
    parts, at = [content[:8]], 8
    while at + 12 <= len(content):
        (length,) = struct.unpack_from('>I', content, at)
        chunk = content[at + 4 : at + 8 + length]
        if at + 12 + length > len(content):
            break
        parts.append(content[at : at + 4] + chunk + struct.pack('>I', zlib.crc32(chunk)))
        at += 12 + length
    return b''.join([*parts, content[at:]])


def _saved(image: Image.Image, kind: str, options: dict) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()
