"""Depth maps that a network writes are resumed, marked, and read back as the network has them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from helpers.drawn import write_images
from helpers.tiny_networks import depth_anything, zoe
from PIL import Image

from cuts3d_mm.images.reading import ImageFailure, NamedImage, read_image
from cuts3d_mm.labellers.depth.files import DepthFromFile, encode_depth, read_marks
from cuts3d_mm.labellers.depth.huggingface import HFDepth

FILES = 'cuts3d_color-texture_file-depth'
QUICK = ('--workers', 0, '--cfg-options', 'model.input_hw=(96, 128)')


@pytest.fixture
def folder(tmp_path, rng, monkeypatch):
    """Photos, and the folders of two tiny networks of the real classes."""
    write_images(tmp_path / 'PHOTOS', 5, rng, (48, 72))
    for make in (depth_anything, zoe):
        torch.manual_seed(0)  # some weights give depth that is flat to the last bits
        for part in make():
            part.save_pretrained(tmp_path / make.__name__)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_maps_are_read_back_by_generate_as_the_network_has_them(cuts3d, folder):
    network = '--cfg-options', 'model.depth.model=depth_anything'
    code, out, err = cuts3d('depth', 'PHOTOS', 'MAPS', *network, '--batch-size', 2)
    assert code == 0 and out == '5 images: 0 failures -> MAPS\n' and 'instances' not in err
    source = HFDepth('depth_anything', predicts='disparity')
    for path in sorted((folder / 'PHOTOS').rglob('*.png')):
        image = NamedImage(path.relative_to(folder / 'PHOTOS').as_posix(), read_image(path))
        (read,), (estimated,) = DepthFromFile('MAPS')([image]), source([image])
        marks = read_marks(folder / 'MAPS' / image.name)
        assert marks['unit'] == 'relative' and json.loads(marks['network'])['half'] is False
        assert np.abs(read * float(marks['step']) - estimated).max() < float(marks['step'])
    code, out, err = cuts3d('generate', FILES, 'PHOTOS', 'LABELS', '--depth', 'MAPS', *QUICK)
    assert code == 0 and ' 0 failures' in out and 'proportions' not in err


@pytest.mark.slow
def test_a_run_resumes_with_the_same_network_only(cuts3d, folder):
    network = '--cfg-options', 'model.depth.model=zoe'
    (folder / 'PHOTOS/a/bad.png').write_bytes(b'')
    call = 'depth', 'PHOTOS', 'MAPS', '--network', 'zoedepth', *network
    code, out, err = cuts3d(*call)
    assert code == 3 and '6 images: 1 failures' in out and 'MAPS/failures.jsonl' in err
    assert json.loads((folder / 'MAPS/failures.jsonl').read_text())['path'] == 'a/bad.png'
    assert read_marks(folder / 'MAPS/a/000.png')['unit'] == 'm'
    (folder / 'PHOTOS/a/bad.png').unlink()
    (folder / 'MAPS/b/000.png').unlink()
    kept = (folder / 'MAPS/a/001.png').stat()
    code, out, _ = cuts3d(*call)
    assert code == 0 and '5 images: 0 failures' in out
    assert (folder / 'MAPS/a/001.png').stat().st_mtime_ns == kept.st_mtime_ns
    assert (folder / 'MAPS/b/000.png').is_file()
    code, _, err = cuts3d('depth', 'PHOTOS', 'MAPS', '--cfg-options', 'model.depth.model=zoe')
    assert code == 2 and 'OUT must hold depth maps of' in err and 'name another OUT' in err


@pytest.mark.parametrize('config', [FILES, 'maskcut_color-texture'])
def test_a_config_without_a_network_is_refused(cuts3d, folder, config):
    code, _, err = cuts3d('depth', 'PHOTOS', 'MAPS', '--network', config)
    assert code == 2 and ('reads it from files' in err or 'depth source must be a dict' in err)


def test_two_images_of_one_name_are_refused(cuts3d, folder):
    Image.new('RGB', (72, 48)).save(folder / 'PHOTOS/a/000.jpg')
    code, _, err = cuts3d('depth', 'PHOTOS', 'MAPS')
    assert code == 2 and 'two images would have the depth map a/000.png' in err


@pytest.mark.parametrize('value', [np.nan, -1.0])
def test_depth_that_no_map_can_hold_is_a_failure(value):
    with pytest.raises(ImageFailure, match='finite and at least 0'):
        encode_depth(np.full((2, 3), value, np.float32), 'm', 'x')


def test_far_depth_of_a_network_is_not_taken_as_a_gap(tmp_path):
    depth = np.linspace(1, 2, 600, dtype=np.float32).reshape(20, 30)
    depth[:4], depth[-1, 0] = 10, 0
    (tmp_path / 'sky.png').write_bytes(encode_depth(depth, 'relative', 'x'))
    read = DepthFromFile(str(tmp_path), larger_is='near').read(tmp_path / 'sky.png')
    assert np.allclose(read * 10 / 65535, depth, atol=1e-3)
