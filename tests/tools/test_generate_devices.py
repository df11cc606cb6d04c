from __future__ import annotations

import json

import pytest
from helpers.drawn import write_depths, write_images

from cuts3d_mm.algorithm.masks import mask_iou
from cuts3d_mm.labels.record import decode_mask
from cuts3d_mm.labels.store import read_store

CONFIG = 'cuts3d_color-texture_file-depth'
SMALL = ('--cfg-options', 'model.input_hw=(96,120)')


@pytest.fixture
def folder(tmp_path, rng, monkeypatch):
    write_depths(tmp_path / 'depth', write_images(tmp_path / 'images', 11, rng), rng)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def generate(cuts3d, out, *options):
    return cuts3d('generate', CONFIG, 'images', out, '--depth', 'depth', *options, *SMALL)


def content(out):
    return {path.name: path.read_bytes() for path in out.glob('*.parquet')}


@pytest.mark.slow
def test_a_device_with_a_process_of_its_own_gives_the_same_labels_and_a_profile(cuts3d, folder):
    assert generate(cuts3d, 'one', '--workers', '0')[0] == 0
    code, _, err = generate(cuts3d, 'own', '--devices', 'cpu:0', '--profile', 'trace.json')
    assert code == 0, err
    assert content(folder / 'one') == content(folder / 'own')
    events = json.loads((folder / 'trace.json').read_text())
    of_networks = {event['pid'] for event in events if event['name'] == 'extract'}
    assert len(of_networks) == 1
    assert not of_networks & {event['pid'] for event in events if event['name'] == 'cut'}
    assert 'Stages, per image' in err and 'refine' in err
    identity = json.loads((folder / 'own/run.json').read_text())['identity']
    assert identity['extraction'] == {'device': 'cpu', 'batch_size': 1}


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (('--precision', 'bf16'), 'precision bf16 needs features by a network'),
        (('--devices', '0,0'), 'must name each device once'),
        (('--devices', '17'), 'cuda:17 must be a GPU of this machine'),
        (('--executor', 'ray', '--workers', '2'), '--workers must be left out'),
        (('--batch-size', '0'), '--batch-size must be at least 1, got 0'),
        (('--workers', '-1'), '--workers must be at least 0, got -1'),
    ],
)
def test_what_no_machine_could_do_is_an_error_before_anything_is_written(
    cuts3d, folder, options, message
):
    code, _, err = generate(cuts3d, 'out', *options)
    assert code == 2 and message in err and err.count('\n') == 1
    assert not (folder / 'out').exists()


@pytest.mark.slow
def test_what_is_cut_on_the_device_has_the_masks_of_the_cpu_and_stays_there(cuts3d, folder):
    (folder / 'images/broken.png').write_bytes(b'no image')
    allowed = '--max-failures', '0.1'
    assert generate(cuts3d, 'cpu', '--workers', '1', *allowed)[0] == 0
    there = '--devices', 'cpu:0', '--workers', '1', '--batch-size', '4', *allowed
    code, out, err = generate(cuts3d, 'there', *there, '--cut-on', 'device')
    assert code == 0 and ' 1 failures' in out, err
    stores = [{one.name: one for one in read_store(folder / name)} for name in ('cpu', 'there')]
    assert list(stores[0]) == list(stores[1]) and sum(len(r.instances) for r in stores[0].values())
    for name, wanted in stores[0].items():
        for ours, theirs in zip(stores[1][name].instances, wanted.instances, strict=True):
            masks = [decode_mask(one, wanted.image_hw) for one in (ours, theirs)]
            assert mask_iou(*masks) > 0.99
    before = content(folder / 'there')
    next((folder / 'there').glob('*.parquet')).unlink()
    assert generate(cuts3d, 'there', *there)[0] == 0
    assert content(folder / 'there') == before
    code, _, err = generate(cuts3d, 'there', *there, '--cut-on', 'cpu')
    assert code == 2 and 'extraction.cut_on' in err


def test_a_recipe_that_no_device_can_follow_is_refused_before_anything_is_written(cuts3d, folder):
    config = CONFIG, 'images', 'out', '--depth', 'depth', '--cut-on', 'device'
    code, _, err = cuts3d('generate', *config, '--cfg-options', 'model.recipe.ncut.sign=lapack')
    assert code == 2 and "ncut.sign must be 'strongest'" in err and not (folder / 'out').exists()
