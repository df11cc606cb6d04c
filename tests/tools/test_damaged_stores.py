"""Damaged shards, as the commands and the data set meet them."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
from helpers.drawn import dataset_config, write_images, write_labelled_images
from helpers.hostile_files import DAMAGES
from PIL import Image

from cuts3d_mm.files.stored_run import RunMismatch
from cuts3d_mm.images.listing import list_images
from cuts3d_mm.labels.record import ImageRecord, encode_instance
from cuts3d_mm.labels.store import find_damage, read_shard, read_store, shard_paths, write_shard
from cuts3d_mm.pipeline.local import LocalExecutor
from cuts3d_mm.pipeline.run import Split, label_images
from cuts3d_mm.pipeline.work import BuiltLabeller, WorkOrder
from cuts3d_mm.registry import DATASETS

QUICK = ('--cfg-options', 'model.input_hw=(96,128)')


def content(folder):
    return {path.name: path.read_bytes() for path in folder.glob('labels-*')}


@pytest.mark.slow
def test_generate_makes_damaged_shards_again_and_names_them(cuts3d, tmp_path, rng, caplog):
    write_images(tmp_path / 'images', 8 * len(DAMAGES), rng)
    arguments = ('generate', 'maskcut_color-texture.py', tmp_path / 'images', tmp_path / 'out')
    cuts3d.done(*arguments, '--workers', 0, *QUICK)
    whole = content(tmp_path / 'out')
    assert len(whole) == len(DAMAGES)
    for path, damage in zip(shard_paths(tmp_path / 'out'), DAMAGES.values(), strict=True):
        damage(path)
    code, out, err = cuts3d(*arguments, '--workers', 0, *QUICK)
    assert code == 0 and f'{8 * len(DAMAGES)} images' in out, err
    assert content(tmp_path / 'out') == whole
    assert all(name in caplog.text for name in whole)


def test_generate_refuses_images_that_others_of_the_same_size_took_the_place_of(
    cuts3d, tmp_path, rng
):
    """Raw pixels, as BMP and frames of cameras hold them, changed in the middle alone."""
    pixels = rng.integers(0, 255, (96, 128, 3), np.uint8)
    (tmp_path / 'images').mkdir()
    for name in ('a', 'b'):
        Image.fromarray(pixels).save(tmp_path / f'images/{name}.bmp')
    arguments = ('generate', 'maskcut_color-texture.py', tmp_path / 'images', tmp_path / 'out')
    cuts3d.done(*arguments, '--workers', 0, *QUICK)
    os.utime(tmp_path / 'images/a.bmp')
    assert cuts3d(*arguments, '--workers', 0, *QUICK)[0] == 0  # the same picture as before
    pixels[40:60] = 0
    for name in ('a', 'b'):
        Image.fromarray(pixels).save(tmp_path / f'images/{name}.bmp')
    code, _, err = cuts3d(*arguments, '--workers', 0, *QUICK)
    assert code == 2 and '2 images changed: a.bmp (time' in err


@pytest.mark.parametrize('kind', DAMAGES)
def test_commands_and_data_sets_name_a_damaged_shard_in_one_line(cuts3d, tmp_path, kind):
    write_labelled_images(tmp_path)
    labels = tmp_path / 'labels'
    cuts3d.done('export', labels, tmp_path / 'truth.json')
    DAMAGES[kind](labels / 'labels-000001.parquet')
    for arguments in (
        ('export', labels, tmp_path / 'x.json'),
        ('score', labels, tmp_path / 'truth.json'),
        ('view', labels, tmp_path / 'images', tmp_path / 'seen'),
        ('convert', 'labels', labels, tmp_path / 'y.json'),
    ):
        code, _, err = cuts3d(*arguments)
        assert code == 2 and err.count('\n') == 1, err
        assert f'shard {labels}/labels-000001.parquet must be whole' in err
    assert not (tmp_path / 'x.json').exists()
    with pytest.raises(ValueError, match=r'shard .*labels-000001\.parquet must be whole'):
        DATASETS.build(dataset_config(tmp_path))


def spoilt_records():
    mask = np.zeros((8, 9), bool)
    mask[2:5, 3:7] = True
    sound = encode_instance(mask, np.full((2, 3), 0.5, np.float32), 0.5)
    changes = {
        'another size': lambda: ImageRecord('x.png', (8, 10), (sound,)),
        'no size': lambda: ImageRecord('x.png', (0, 0), (sound,)),
        'a size of terabytes': lambda: ImageRecord('x.png', (2**30, 2**30), (sound,)),
    }
    for name, field in {
        'garbage': {'rle': b'oooo'},
        'no code': {'rle': b''},
        'no number': {'box_xywh': (0.0, float('nan'), 1.0, 1.0)},
        'score without an end': {'score': float('inf')},
    }.items():
        changes[name] = lambda field=field: ImageRecord('x.png', (8, 9), (_with(sound, **field),))
    for name, field in {
        'confidence too short': {'values': b'1'},
        'crop out of its grid': {'crop_xywh': (2, 0, 3, 2)},
        'no grid': {'grid_hw': (0, 0)},
    }.items():
        crop = _with(sound.confidence, **field)
        changes[name] = lambda crop=crop: ImageRecord(
            'x.png', (8, 9), (_with(sound, confidence=crop),)
        )
    return changes


def _with(record, **changes):
    return replace(record, **changes)


@pytest.mark.parametrize('kind', spoilt_records())
def test_rows_that_cannot_be_labels_are_named_in_one_line(cuts3d, tmp_path, kind):
    write_labelled_images(tmp_path)
    labels = tmp_path / 'labels'
    write_shard(labels, 2, [spoilt_records()[kind]()])
    code, _, err = cuts3d('export', labels, tmp_path / 'x.json')
    assert code == 2 and err.count('\n') == 1, err
    assert 'labels-000002.parquet' in err and "labels of 'x.png'" in err
    with pytest.raises(ValueError, match=r"labels of 'x\.png'"):
        dataset = DATASETS.build(dataset_config(tmp_path))
        list(map(dataset.get_data_info, range(len(dataset))))


def test_shards_without_checksums_are_read(tmp_path):
    write_labelled_images(tmp_path)
    expected = list(read_store(tmp_path / 'labels'))
    for path in shard_paths(tmp_path / 'labels'):
        pq.write_table(pq.read_table(path), path, write_page_checksum=False)
        assert find_damage(path) is None
    assert list(read_store(tmp_path / 'labels')) == expected


def test_a_flipped_bit_is_found_or_changes_nothing(tmp_path, rng):
    write_labelled_images(tmp_path)
    path, *_ = shard_paths(tmp_path / 'labels')
    content, expected = path.read_bytes(), list(read_shard(path))
    found = 0
    for position in rng.integers(4, len(content), 150):
        changed = bytearray(content)
        changed[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        if find_damage(path) is None:
            assert list(read_shard(path)) == expected
        else:
            found += 1
    assert found > 50


class Bright:
    """A labeller that finds the bright half of an image."""

    def predict_batch(self, images):
        masks = (image.pixels[..., 0] > 90 for image in images)
        return [[SimpleNamespace(mask=mask, confidence=None, score=0.5)] for mask in masks]


class Silent:
    def start(self, *_):
        pass

    add = start


def flip(content, rng):
    content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))


def cut(content, rng):
    del content[rng.integers(len(content)) :]


def blank(content, rng):
    start = int(rng.integers(len(content)))
    content[start : start + 64] = bytes(len(content[start : start + 64]))


def append(content, rng):
    content += content[: int(rng.integers(len(content)))]


@pytest.mark.slow
def test_no_damage_of_a_store_gives_other_labels_in_silence(tmp_path, rng, caplog):
    write_images(tmp_path / 'images', 20, rng)
    images = list_images(tmp_path / 'images')

    def label(out, identity='ours'):
        order = WorkOrder(BuiltLabeller(Bright(), {'is': identity}), images.root, out, 1)
        label_images(order, images, LocalExecutor(0), Split(), Silent())

    whole, foreign, out = (tmp_path / name for name in ('whole', 'foreign', 'out'))
    label(whole)
    label(foreign, 'another')
    expected, names = list(read_store(whole)), sorted(path.name for path in whole.iterdir())
    damages, outcomes = (flip, cut, blank, append), Counter()
    for number in range(140):
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(whole, out)
        caplog.clear()
        path, other = (out / names[rng.integers(len(names))] for _ in range(2))
        kind = number % 7
        if kind < 4:
            changed = bytearray(path.read_bytes() or b'x')
            damages[kind](changed, rng)
            path.write_bytes(changed)
        elif kind == 4:
            path.unlink()
        elif kind == 5:
            path.write_bytes(other.read_bytes())
        else:
            shutil.copyfile(foreign / path.name, path)
        try:
            read = list(read_store(out))
        except ValueError:
            outcomes['refused by readers'] += 1
        else:
            assert read == expected or 'of the 20 images of its run' in caplog.text, path
        try:
            label(out)
        except RunMismatch:
            outcomes['refused by the run'] += 1
        else:
            assert list(read_store(out)) == expected, path
    assert outcomes['refused by readers'] > 40
