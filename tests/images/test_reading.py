from __future__ import annotations

import json
import os

import numpy as np
import pytest
from PIL import Image

from cuts3d_mm.images.listing import list_images
from cuts3d_mm.images.reading import ImageFailure, read_image, read_named_image, resize_rgb


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


@pytest.fixture
def rgb(rng):
    return rng.integers(0, 256, (20, 33, 3), dtype=np.uint8)


def test_folder_is_searched_recursively_and_sorted(tmp_path, rgb):
    for name in ('b/x.png', 'a/x.png', 'z.JPG', 'a/notes.txt'):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    images = list_images(tmp_path)
    assert images.names == ('a/x.png', 'b/x.png', 'z.JPG') and images.root == tmp_path


def test_text_file_lists_paths_relative_to_itself(tmp_path):
    (tmp_path / 'list.txt').write_text('b/x.png\n\na/x.png\n')
    assert list_images(tmp_path / 'list.txt').names == ('a/x.png', 'b/x.png')


def test_paths_outside_share_their_deepest_folder(tmp_path):
    (tmp_path / 'lists').mkdir()
    paths = f'{tmp_path}/data/a/x.png\n{tmp_path}/data/b/x.png\n'
    (tmp_path / 'lists/list.txt').write_text(paths)
    images = list_images(tmp_path / 'lists/list.txt')
    assert images.root == tmp_path / 'data' and images.names == ('a/x.png', 'b/x.png')


def test_coco_json_finds_images_beside_it(tmp_path, rgb):
    save(tmp_path / 'images/a.png', rgb)
    (tmp_path / 'gt.json').write_text(json.dumps({'images': [{'file_name': 'a.png'}]}))
    images = list_images(tmp_path / 'gt.json')
    assert images.root == tmp_path / 'images' and images.names == ('a.png',)


@pytest.mark.parametrize(
    ('name', 'text', 'message'),
    [
        ('empty.txt', '\n', 'must hold at least one image'),
        ('twice.txt', 'a.png\na.png\n', 'a.png more than once'),
        ('x.json', '{}', 'must be a COCO JSON'),
        ('x.json', 'nonsense', 'must be a COCO JSON'),
    ],
)
def test_wrong_lists_are_refused(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        list_images(tmp_path / name)


def test_a_list_as_find_writes_it_has_plain_names(tmp_path):
    (tmp_path / 'list.txt').write_bytes(b'\xef\xbb\xbf./b/x.png\r\n./a/x\xe2\x80\xa8y.png\r\n')
    names = list_images(tmp_path / 'list.txt').names
    assert names == ('a/x\u2028y.png', 'b/x.png')


def test_one_climbing_line_does_not_move_the_folder_of_the_others(tmp_path):
    (tmp_path / 'list.txt').write_text('a/x.png\n../../secret.png\n/etc/secret.png\n')
    images = list_images(tmp_path / 'list.txt')
    assert images.root == tmp_path
    assert images.names == ('../../secret.png', '/etc/secret.png', 'a/x.png')


def test_absolute_paths_in_the_folder_of_the_list_are_relative_to_it(tmp_path):
    (tmp_path / 'list.txt').write_text(f'{tmp_path}/a/x.png\nb/x.png\n')
    assert list_images(tmp_path / 'list.txt').names == ('a/x.png', 'b/x.png')


def test_an_image_is_no_list(tmp_path, rgb):
    with pytest.raises(ValueError, match='IMAGES must be a folder, a text file'):
        list_images(save(tmp_path / 'x.png', rgb))


def test_a_long_list_with_a_repeated_name_is_refused(tmp_path):
    names = [f'{number:05d}.png' for number in range(20000)]
    (tmp_path / 'list.txt').write_text('\n'.join([*names, names[-1]]))
    with pytest.raises(ValueError, match='got 19999.png more than once'):
        list_images(tmp_path / 'list.txt')


def test_a_folder_that_cannot_be_read_is_listed(tmp_path, rgb, monkeypatch):
    save(tmp_path / 'a/x.png', rgb)
    save(tmp_path / 'closed/x.png', rgb)
    monkeypatch.setattr(os, 'scandir', refusing(os.scandir))
    monkeypatch.setattr(os, 'access', lambda path, mode: 'closed' not in str(path))
    images = list_images(tmp_path)
    assert images.names == ('a/x.png', 'closed')
    with pytest.raises(ImageFailure, match='folder cannot be read: permission denied'):
        read_named_image(tmp_path, 'closed')


def refusing(scandir):
    def scan(path):
        if str(path).endswith('closed'):  # as for a user who is not root
            raise PermissionError(13, 'Permission denied')
        return scandir(path)

    return scan


def test_missing_source_is_refused(tmp_path):
    with pytest.raises(ValueError, match='IMAGES must be a folder'):
        list_images(tmp_path / 'nothing')


def test_limit_keeps_the_first_by_name(tmp_path):
    (tmp_path / 'list.txt').write_text('c.png\na.png\nb.png\n')
    images = list_images(tmp_path / 'list.txt')
    assert images.first(2).names == ('a.png', 'b.png') and images.first(None) == images
    with pytest.raises(ValueError, match='limit must be at least 1'):
        images.first(0)


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


def test_float_tiff_is_scaled(tmp_path):
    path = save(tmp_path / 'x.tiff', np.linspace(0, 1, 60, dtype=np.float32).reshape(5, 12))
    found = read_image(path)
    assert found.min() == 0 and found.max() == 255


@pytest.mark.parametrize('content', [b'', b'not an image', b'\x89PNG\r\n\x1a\n', b'\xff\xd8\xff'])
def test_broken_files_are_failures(tmp_path, content):
    (tmp_path / 'x.jpg').write_bytes(content)
    with pytest.raises(ImageFailure, match='cannot be read as an image'):
        read_image(tmp_path / 'x.jpg')


@pytest.mark.parametrize('suffix', ['jpg', 'png', 'webp', 'tif', 'gif', 'bmp'])
def test_truncated_files_are_failures(tmp_path, rgb, suffix):
    path = save(tmp_path / f'x.{suffix}', np.tile(rgb, (9, 9, 1)))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ImageFailure):
        read_image(path)


def test_missing_file_is_a_failure(tmp_path):
    with pytest.raises(ImageFailure):
        read_image(tmp_path / 'gone.jpg')


def test_resize_does_not_keep_the_aspect(rgb):
    assert resize_rgb(rgb, (16, 48)).shape == (16, 48, 3)


def test_the_reason_of_a_failure_is_the_same_in_every_run(tmp_path):
    (tmp_path / 'broken.png').write_bytes(b'no image')
    reasons = set()
    for _ in range(2):
        with pytest.raises(ImageFailure) as failure, open(tmp_path / 'broken.png', 'rb'):
            read_image(tmp_path / 'broken.png')
        reasons.add(str(failure.value))
        with pytest.raises(ImageFailure) as failure:
            read_image(tmp_path / 'broken.png')
        reasons.add(str(failure.value))
    assert reasons == {'cannot be read as an image: cannot identify image file'}
