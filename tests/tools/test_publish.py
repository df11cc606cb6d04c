from __future__ import annotations

import json

import pytest
import torch
from label_stores import write_labelled_images
from loopback_hub import TOKEN
from released_detectors import write_checkpoint

from cuts3d_mm.labels.store import read_store

REPO = 'someone/tiny'


@pytest.fixture(scope='module')
def detector(tmp_path_factory):
    path = tmp_path_factory.mktemp('detector') / 'iter_1.pth'
    return path, write_checkpoint(path)


def test_a_detector_and_its_labels_are_published_and_come_back(hub, cuts3d, detector, tmp_path):
    write_labelled_images(tmp_path)
    run = {'identity': {'model': {'depth': {'root': '/home/me/depth'}}}}
    (tmp_path / 'labels/run.json').write_text(json.dumps(run))
    scores = {'bbox': {'AP50': 0.2, 'APs': -1.0}, 'segm': {'AP50': 0.1}}
    (tmp_path / 'scores.json').write_text(json.dumps(scores))
    arguments = (
        *detector, '--repo', REPO, '--metrics', tmp_path / 'scores.json',
        '--labels', tmp_path / 'labels',
    )  # fmt: skip
    code, out, err = cuts3d('publish', *arguments)
    assert code == 0, err
    assert out.count('checked: every file has the hash of the local one') == 2
    assert TOKEN not in out + err
    code, again, err = cuts3d('publish', *arguments)
    assert code == 0 and again.count('nothing, all files are there already') == 2, err

    code, out, err = cuts3d('download', REPO, '--out', tmp_path / 'copy')
    assert code == 0 and 'model.safetensors' in out, err
    assert 'box AP50' in (tmp_path / 'copy/README.md').read_text()
    labels = (f'{REPO}-labels', '--repo-type', 'dataset', '--out', tmp_path / 'back')
    code, _, err = cuts3d('download', *labels)
    assert code == 0, err
    assert list(read_store(tmp_path / 'back/data')) == list(read_store(tmp_path / 'labels'))
    assert '/home/me' not in (tmp_path / 'back/run.json').read_text()
    assert '5 images, 6\ninstances, 1 failures' in (tmp_path / 'back/README.md').read_text()


def test_dry_run_writes_the_files_and_asks_nobody(hub, cuts3d, detector):
    code, out, err = cuts3d('publish', *detector, '--repo', REPO, '--dry-run')
    assert code == 0 and 'would get' in out and 'model.safetensors' in out, err
    assert hub.requests == []


def test_the_moving_average_is_what_is_released(cuts3d, detector, tmp_path):
    """MMEngine's EMAHook keeps it as `state_dict`, the raw weights as `ema_state_dict`."""
    content = torch.load(detector[0], weights_only=False)
    content['ema_state_dict'] = {f'module.{n}': v + 1 for n, v in content['state_dict'].items()}
    torch.save(content, tmp_path / 'ema.pth')
    code, out, err = cuts3d(
        'publish', tmp_path / 'ema.pth', detector[1], '--repo', REPO, '--dry-run'
    )
    assert code == 0, err
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
    code, _, err = cuts3d('publish', detector[0], stock, '--repo', REPO)
    assert code == 2 and 'must fit the network' in err and hub.requests == []
