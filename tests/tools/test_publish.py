from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.drawn import write_labelled_images
from helpers.servers import TOKEN
from helpers.tiny_detectors import write_checkpoint

from cuts3d_mm.configs import load_config
from cuts3d_mm.hub.client import CONFIG_FILE
from cuts3d_mm.labels.store import read_store, write_shard

pytestmark = pytest.mark.slow
REPO = 'someone/tiny'


@pytest.fixture(scope='module')
def detector(tmp_path_factory):
    path = tmp_path_factory.mktemp('detector') / 'iter_1.pth'
    return write_checkpoint(path), path


def test_a_detector_and_its_labels_are_published_and_come_back(hub, cuts3d, detector, tmp_path):
    write_labelled_images(tmp_path)
    depth = {'type': 'cuts3d_mm.FileDepth', 'root': '/home/me/depth'}
    model = {'features': {'type': 'ViTKeyFeatures', 'checkpoint': '/home/me/vit.pth'}}
    run = {'identity': {'model': {**model, 'depth': depth, 'recipe': {}}}}
    (tmp_path / 'labels/run.json').write_text(json.dumps(run))
    scores = {'bbox': {'AP50': 0.2, 'APs': -1.0}, 'segm': {'AP50': 0.1}}
    (tmp_path / 'scores.json').write_text(json.dumps(scores))
    arguments = (
        *detector, '--repo', REPO, '--metrics', tmp_path / 'scores.json',
        '--labels', tmp_path / 'labels', '--license', 'mit',
    )  # fmt: skip
    code, out, err = cuts3d('publish', *arguments)
    assert code == 0, err
    assert out.count('checked: every file has the hash of the local one') == 2
    assert TOKEN not in out + err
    code, again, err = cuts3d('publish', *arguments)
    assert code == 0 and again.count('nothing, all files are there already') == 2, err

    code, out, err = cuts3d('download', REPO, '--out', tmp_path / 'copy')
    assert code == 0 and 'model.safetensors' in out, err
    card = (tmp_path / 'copy/README.md').read_text()
    assert 'box AP50' in card and 'license: mit' in card
    assert 'without a single human label' not in card
    labels = (f'{REPO}-labels', '--repo-type', 'dataset', '--out', tmp_path / 'back')
    cuts3d.done('download', *labels)
    assert list(read_store(tmp_path / 'back/data')) == list(read_store(tmp_path / 'labels'))
    assert '/home/me' not in (tmp_path / 'back/run.json').read_text()
    card = (tmp_path / 'back/README.md').read_text()
    assert '5 images, 6 instances, 1 failures' in card
    assert 'with `ViTKeyFeatures` of `vit.pth` and `FileDepth`, published by' in card


def test_dry_run_writes_the_files_and_asks_nobody(hub, cuts3d, detector):
    code, out, err = cuts3d('publish', *detector, '--repo', REPO, '--dry-run')
    assert code == 0 and 'would get' in out and 'model.safetensors' in out, err
    assert hub.requests == []


def test_a_picture_of_own_images_is_published_only_if_it_is_named(cuts3d, detector, tmp_path):
    (tmp_path / 'mine.jpg').write_bytes(b'JPEG')
    arguments = (*detector, '--repo', REPO, '--dry-run')
    assert 'detections.jpg' not in cuts3d('publish', *arguments)[1]
    out = cuts3d.done('publish', *arguments, '--picture', tmp_path / 'mine.jpg')
    files = {Path(one).name: Path(one) for one in out.split() if one.startswith('/')}
    assert files['detections.jpg'].read_bytes() == b'JPEG'
    assert '](detections.jpg)' in files['README.md'].read_text()


def test_the_moving_average_is_what_is_released(cuts3d, detector, tmp_path):
    """MMEngine's EMAHook keeps it as `state_dict`, the raw weights as `ema_state_dict`."""
    content = torch.load(detector[1], weights_only=False)
    content['ema_state_dict'] = {f'module.{n}': v + 1 for n, v in content['state_dict'].items()}
    torch.save(content, tmp_path / 'ema.pth')
    out = cuts3d.done('publish', detector[0], tmp_path / 'ema.pth', '--repo', REPO, '--dry-run')
    path = next(line.split()[-1] for line in out.splitlines() if line.endswith('model.pth'))
    released = torch.load(path, weights_only=True)['state_dict']
    assert all(torch.equal(released[n], v) for n, v in content['state_dict'].items())


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (('--repo', 'nameless'), 'must be owner/repo'),
        (('--repo', f'{REPO}@v1'), 'without a revision'),
        (('--repo', REPO, '--labels', '/nowhere'), 'must be a label store'),
    ],
)
def test_wrong_calls_are_one_line_before_anything_is_sent(hub, cuts3d, detector, change, message):
    code, _, err = cuts3d('publish', *detector, *change)
    assert code == 2 and message in err and hub.requests == []


def test_weights_of_another_detector_are_refused(hub, cuts3d, detector):
    stock = 'cuts3d_stock-cascade-mask-rcnn_r50_fpn_1x.py'
    code, _, err = cuts3d('publish', stock, detector[1], '--repo', REPO)
    assert code == 2 and 'must fit the network' in err and hub.requests == []


PRIVATE = {
    'load_from': '~/name/w.pth',
    'work_dir': '../../home/name',
    'train_dataloader.dataset.dataset.ann_file': 'C:\\Users\\name\\labels',
    'optim_wrapper.paramwise_cfg': {'custom_keys': {'backbone.norm': {'decay_mult': 0.0}}},
    'visualizer.vis_backends': [
        {'type': 'WandbVisBackend', 'init_kwargs': {'api_key': 'verysecret'}},
        {'type': 'LocalVisBackend', 'save_dir': 'file:///home/name'},
    ],
    'notes': 'trained in /home/name/runs with s3://me:verysecret@bucket/x',
    'hf_token': 'hf_verysecretverysecret',
}


def test_only_the_model_the_test_sizes_and_the_names_of_classes_are_published(
    cuts3d, detector, tmp_path
):
    config = load_config(detector[0], [])
    config.merge_from_dict(PRIVATE)
    config.dump(tmp_path / 'mine.py')
    content = torch.load(detector[1], weights_only=False)
    content['meta'] |= {'cfg': config.pretty_text, 'experiment_name': '/home/name/runs'}
    content['meta']['dataset_meta'] = {'classes': ('object', 'see ~/name/list')}
    torch.save(content, tmp_path / 'iter.pth')
    arguments = (tmp_path / 'mine.py', tmp_path / 'iter.pth', '--repo', REPO, '--dry-run')
    out = cuts3d.done('publish', *arguments)
    files = {Path(line.split()[-1]) for line in out.splitlines() if 'bytes' in line}
    assert len(files) == 4
    for path in files:
        found = path.read_bytes()
        assert not any(private in found for private in (b'verysecret', b'/name', b'\\name')), path
    published = json.loads(next(path for path in files if path.name == CONFIG_FILE).read_text())
    assert set(published) == {'default_scope', 'model', 'test_dataloader', 'visualizer'}


@pytest.mark.parametrize(
    ('run', 'place'),
    [
        ({'model': {'depth': {'hf_token': 'x'}}}, r'run.json.model.depth.hf_token'),
        ({'argv': ['s3://me:verysecret@bucket/x']}, r'run.json.argv[0]'),
    ],
)
def test_secrets_in_the_record_of_a_run_are_refused(hub, cuts3d, detector, tmp_path, run, place):
    write_labelled_images(tmp_path)
    (tmp_path / 'labels/run.json').write_text(json.dumps(run))
    arguments = (*detector, '--repo', REPO, '--labels', tmp_path / 'labels')
    code, _, err = cuts3d('publish', *arguments)
    assert code == 2 and place in err and 'verysecret' not in err and hub.requests == []


def test_local_paths_are_removed_from_the_reasons_of_failures(hub, cuts3d, detector, tmp_path):
    write_labelled_images(tmp_path)
    records = list(read_store(tmp_path / 'labels'))
    reason = "cannot identify image file '/home/name/my photos/broken.png'"
    failed = replace(records[-1], failure=reason)
    write_shard(tmp_path / 'labels', 1, [*records[2:-1], failed])
    (tmp_path / 'labels/run.json').write_text(json.dumps({'root': '~/name', 'argv': ['../name']}))
    arguments = (*detector, '--repo', REPO, '--labels', tmp_path / 'labels')
    cuts3d.done('publish', *arguments)
    labels = (f'{REPO}-labels', '--repo-type', 'dataset', '--out', tmp_path / 'back')
    cuts3d.done('download', *labels)
    back = list(read_store(tmp_path / 'back/data'))
    assert back[:-1] == records[:-1]
    assert back[-1].failure == "cannot identify image file 'broken.png'"
    assert 'name' not in (tmp_path / 'back/run.json').read_text()


def test_a_secret_in_the_card_is_refused(hub, cuts3d, detector, tmp_path):
    scores = {'hf_verysecretverysecret': {'bbox': {'AP50': 0.2}, 'segm': {'AP50': 0.1}}}
    (tmp_path / 'scores.json').write_text(json.dumps(scores))
    arguments = (*detector, '--repo', REPO, '--metrics', tmp_path / 'scores.json')
    code, _, err = cuts3d('publish', *arguments)
    assert code == 2 and 'README.md' in err and 'verysecret' not in err and hub.requests == []
