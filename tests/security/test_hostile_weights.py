"""No command runs what a file of weights pickles."""

from __future__ import annotations

import pickle
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import hostile_models
from helpers.drawn import write_depths
from helpers.tiny_detectors import TINY, tiny_config
from helpers.training import train_command, write_training_set

from cuts3d_mm.hub.client import CONFIG_FILE
from cuts3d_mm.hub.publishing import flatten_config

VIT = 'cuts3d_dino-vits8_zoedepth.py'
KINDS = list(hostile_models.kinds(Path('marker')))


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    """Images and labels, and a data set by name, for commands that look for them first."""
    root = write_training_set(tmp_path_factory.mktemp('set'))
    (root / 'coco.json').write_text('{}')
    names = [path.name for path in (root / 'images').iterdir()]
    write_depths(root / 'depth', names, np.random.default_rng(0))
    return root


def training(root, work_dir, *options):
    """Arguments of `cuts3d train` behind its name."""
    return train_command(root, work_dir, 4, *options)[2:]


def arguments_of_test(root, evil, out):
    config, *rest = training(root, out)
    return [config, evil, *rest]


def auto_resume(root, evil, out):
    out.mkdir()
    evil.rename(out / 'iter_2.pth')
    (out / 'last_checkpoint').write_text(str(out / 'iter_2.pth'))
    return training(root, out, '--resume')


def resume(root, evil, out):
    config, *rest = training(root, out)
    return [config, '--resume', evil, *rest]


def release(root, evil, out):
    out.mkdir()
    evil.rename(out / 'model.safetensors')
    (out / CONFIG_FILE).write_text(flatten_config(tiny_config()))
    return [root / 'images', '--model', out, '--out', out / 'found']


COMMANDS = {
    'test': arguments_of_test,
    'train --resume FILE': resume,
    'train --resume': auto_resume,
    'train load_from': lambda root, evil, out: training(root, out, f'load_from={evil}'),
    'train init_cfg': lambda root, evil, out: training(
        root,
        out,
        'model.backbone.init_cfg._delete_=True',
        'model.backbone.init_cfg.type=Pretrained',
        f'model.backbone.init_cfg.checkpoint={evil}',
    ),
    'predict': lambda root, evil, out: [TINY, evil, root / 'images', out],
    'detect CONFIG': lambda root, evil, out: [
        root / 'images', '--model', TINY, '--weights', evil, '--out', out,
    ],
    'detect': lambda root, evil, out: [root / 'images', '--weights', evil, '--out', out],
    'detect FOLDER': release,
    'evaluate_suite': lambda root, evil, out: [TINY, evil, root, out],
    'publish': lambda root, evil, out: [TINY, evil, '--repo', 'some/one', '--dry-run'],
    'convert': lambda root, evil, out: ['detectron2', evil, out],
    'convert --reverse': lambda root, evil, out: ['detectron2', '--reverse', evil, out],
    'convert dino': lambda root, evil, out: ['dino', evil, out],
    'generate': lambda root, evil, out: [
        VIT, root / 'images', out, '--depth', root / 'depth', '--workers', 0, '--cfg-options',
        f'model.features.checkpoint={evil}',
    ],
    'app': lambda root, evil, out: ['--model', TINY, '--weights', evil],
}  # fmt: skip


def require_refusal(cuts3d, command, root, kind, folder):
    """Run a command on a hostile file: one line, exit code 2, no marker."""
    marker = folder / 'markers' / 'marker'
    marker.parent.mkdir()
    evil = folder / 'evil.pth'
    hostile_models.kinds(marker)[kind](evil)
    arguments = COMMANDS[command](root, evil, folder / 'out')
    code, out, err = cuts3d(command.split()[0], *arguments)
    time.sleep(0.05)  # a process that was started would write it now
    assert not marker.exists()
    assert code == 2 and 'Traceback' not in out + err, err[-2000:]
    line = err.splitlines()[-1]
    assert line.startswith('cuts3d ') and ('file of weights' in line or 'damaged' in line), line


@pytest.mark.parametrize('kind', KINDS)
def test_no_kind_of_file_runs_code(cuts3d, root, kind, tmp_path):
    require_refusal(cuts3d, 'convert dino', root, kind, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['zip', 'legacy'])
@pytest.mark.parametrize('command', COMMANDS)
def test_no_command_runs_code_of_a_file(cuts3d, root, command, kind, tmp_path):
    if command == 'app' and not (find_spec('gradio') and find_spec('plotly')):
        pytest.skip('the app is not installed')
    if command == 'generate':
        pytest.importorskip('mmpretrain')
    require_refusal(cuts3d, command, root, kind, tmp_path)


@pytest.mark.parametrize('kind', KINDS)
def test_the_file_is_live(kind, tmp_path):
    """What is refused above does write the marker where PyTorch or pickle loads it."""
    if kind == 'dotted' and sys.version_info >= (3, 13):
        pytest.skip('Python 3.13 itself does not load it')
    marker = tmp_path / 'marker'
    evil = tmp_path / 'evil.pth'
    hostile_models.kinds(marker)[kind](evil)
    try:
        if kind.startswith('pickle'):
            pickle.loads(evil.read_bytes())
        else:
            torch.load(evil, weights_only=False)
    except Exception:  # noqa: BLE001  whatever comes after the marker
        pass
    deadline = time.monotonic() + 5
    while not marker.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert marker.exists()
