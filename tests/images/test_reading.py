from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from cuts3d_mm.images.reading import ImageFailure, read_image, resize_rgb


def save(path, array, **options):
    Image.fromarray(array).save(path, **options)
    return path


@pytest.fixture
def rgb(rng):
    return rng.integers(0, 256, (20, 33, 3), dtype=np.uint8)


def test_exif_orientation_is_not_applied(tmp_path, rgb):
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    path = save(tmp_path / 'x.png', rgb, exif=exif)
    assert (read_image(path) == rgb).all()


def test_grey_and_palette_and_alpha_become_rgb(tmp_path, rgb):
    grey = save(tmp_path / 'grey.png', rgb[..., 0])
    assert (read_image(grey) == rgb[..., :1]).all()
    Image.fromarray(rgb).quantize(8).save(tmp_path / 'palette.png', transparency=0)
    assert read_image(tmp_path / 'palette.png').shape == rgb.shape
    rgba = save(tmp_path / 'rgba.png', np.dstack([rgb, rgb[..., 0]]))
    assert (read_image(rgba) == rgb).all()


def test_cmyk_becomes_rgb(tmp_path, rgb):
    Image.fromarray(rgb).convert('CMYK').save(tmp_path / 'x.jpg')
    assert read_image(tmp_path / 'x.jpg').shape == rgb.shape


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
    ramp = np.linspace(0, 65535, 200).astype(np.uint16).reshape(10, 20)
    found = read_image(save(tmp_path / 'x.png', ramp))[..., 0]
    assert (found == ramp >> 8).all()


def test_twelve_bits_in_sixteen_fill_the_range(tmp_path):
    ramp = np.linspace(0, 4095, 200).astype(np.uint16).reshape(10, 20)
    assert (read_image(save(tmp_path / 'x.png', ramp))[..., 0] == ramp >> 4).all()


def test_float_tiff_is_scaled(tmp_path):
    path = save(tmp_path / 'x.tiff', np.linspace(0, 1, 60, dtype=np.float32).reshape(5, 12))
    found = read_image(path)
    assert found.min() == 0 and found.max() == 255


@pytest.mark.parametrize('content', [b'', b'not an image', b'\x89PNG\r\n\x1a\n', b'\xff\xd8\xff'])
def test_broken_and_missing_files_are_failures(tmp_path, content):
    (tmp_path / 'x.jpg').write_bytes(content)
    for name in ('x.jpg', 'gone.jpg'):
        with pytest.raises(ImageFailure, match='cannot be read as an image'):
            read_image(tmp_path / name)


@pytest.mark.parametrize('suffix', ['jpg', 'png', 'webp', 'tif', 'gif', 'bmp'])
def test_truncated_files_are_failures(tmp_path, rgb, suffix):
    path = save(tmp_path / f'x.{suffix}', np.tile(rgb, (9, 9, 1)))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ImageFailure):
        read_image(path)


def test_resize_does_not_keep_the_aspect(rgb):
    assert resize_rgb(rgb, (16, 48)).shape == (16, 48, 3)


def test_the_reason_of_a_failure_is_the_same_in_every_run(tmp_path):
    (tmp_path / 'broken.png').write_bytes(b'no image')
    for _ in range(2):
        with pytest.raises(ImageFailure) as failure:
            read_image(tmp_path / 'broken.png')
        assert str(failure.value) == 'cannot be read as an image: cannot identify image file'
