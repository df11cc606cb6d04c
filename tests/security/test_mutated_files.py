"""Whatever the bytes of an image or a depth map are, a reader gives pixels or a reason."""

from __future__ import annotations

import io
import os
import warnings

import numpy as np
import pytest
from helpers.mutated_files import depth_files, image_files, mutations, postscript
from PIL import Image, UnidentifiedImageError

from cuts3d_mm.images.reading import ImageFailure, read_image, read_image_hw
from cuts3d_mm.labellers.depth.files import DepthFromFile

COUNT = int(os.environ.get('CUTS3D_MUTATIONS', '2000'))


def escapes(read, files):
    """Read files; returns what was raised that is no failure of the file, and how many passed."""
    escaped, passed = [], 0
    for name, content in files:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')
                read(name, content)
            passed += 1
        except ImageFailure:
            continue
        except Exception as error:  # noqa: BLE001  this is what the test looks for
            escaped.append((name, repr(error)))
    return escaped, passed


def fuzz_images(count, rng):
    def read(name, content):
        pixels = read_image(io.BytesIO(content))
        assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3

    return escapes(read, mutations(image_files(rng), count, rng))


def fuzz_depth(count, rng, folder):
    source = DepthFromFile(str(folder))

    def read(suffix, content):
        path = folder / f'x{suffix}'
        path.write_bytes(content)
        depth = source.read(path)
        assert depth.dtype == np.float32 and np.isfinite(depth).all()

    return escapes(read, mutations(depth_files(rng), count, rng))


def test_no_damaged_file_escapes(rng, tmp_path):
    escaped, passed = fuzz_images(160, rng)
    assert not escaped and passed > 20
    escaped, passed = fuzz_depth(80, rng, tmp_path)
    assert not escaped and passed > 5


@pytest.mark.slow
def test_no_damaged_file_of_thousands_escapes(rng, tmp_path):
    """CUTS3D_MUTATIONS sets how many."""
    found = fuzz_images(COUNT // 2, rng), fuzz_depth(COUNT - COUNT // 2, rng, tmp_path)
    assert [escaped for escaped, _ in found] == [[], []]


@pytest.mark.parametrize(
    'error',
    [RuntimeError, NotImplementedError, ZeroDivisionError, AttributeError, KeyError, MemoryError],
)
def test_whatever_a_decoder_raises_is_a_failure_of_the_file(monkeypatch, error):
    def load(self):
        raise error('broken inside')

    content = io.BytesIO()
    Image.new('RGB', (4, 3)).save(content, 'PNG')
    monkeypatch.setattr('PIL.PngImagePlugin.PngImageFile.load', load)
    with pytest.raises(ImageFailure, match='cannot be read as an image: .*broken inside'):
        read_image(content)


@pytest.mark.parametrize('name', ['x.jpg', 'x.eps', 'x.png'])
def test_postscript_starts_nothing_whatever_its_name_is(monkeypatch, tmp_path, name):
    monkeypatch.setattr('PIL.EpsImagePlugin.Ghostscript', lambda *_, **__: pytest.fail('started'))
    monkeypatch.setattr('subprocess.Popen', lambda *_, **__: pytest.fail('started'))
    (tmp_path / name).write_bytes(postscript())
    for read in (read_image, read_image_hw):
        with pytest.raises(ImageFailure, match='cannot identify'):
            read(tmp_path / name)


@pytest.mark.parametrize('kind', ['PCX', 'TGA', 'SGI', 'DDS', 'ICO', 'IM', 'SPIDER', 'EPS'])
def test_formats_that_nobody_photographs_in_are_not_decoded(kind):
    content = io.BytesIO()
    mode = 'F' if kind == 'SPIDER' else 'RGB'
    Image.new(mode, (40, 30)).save(content, kind)
    assert Image.open(content).format == kind  # Pillow alone would
    with pytest.raises(ImageFailure) as failure:
        read_image(content)
    assert isinstance(failure.value.__cause__, UnidentifiedImageError)


def test_every_format_of_photos_is_decoded(rng):
    for name, content in image_files(rng).items():
        pixels = read_image(io.BytesIO(content))
        assert pixels.shape == ((3, 4, 3) if name == 'ascii pgm' else (24, 36, 3)), name
