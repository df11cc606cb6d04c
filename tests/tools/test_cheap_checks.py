"""Mistakes in arguments end a command before it asks the Hub or imports what takes seconds."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.drawn import write_images
from helpers.servers import serve_hub

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
DINO = 'cuts3d_dino-vitb8_zoedepth'
TRAINED = 'cuts3d_cascade-mask-rcnn_r50_fpn_8xb2-amp-160k_imagenet'
WEIGHTS = 'hf://owner/repo/model.safetensors'
MOST_S = 2.0  # of CPU; an unknown key costs the import of its class on top, which needs torch
COMMANDS = {  # right but for the mistake that a test adds
    'generate': (DINO, 'images', 'out'),
    'predict': (TRAINED, WEIGHTS, 'images', 'out'),
    'explain': (DINO, 'images/a/000.png'),
    'detect': ('images', '--model', 'owner/repo', '--out', 'out'),
    'app': ('--config', DINO, '--model', 'owner/repo'),
}
NO_GPU = 'must be a GPU of this machine'


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('cheap')
    import numpy as np

    write_images(folder / 'images', 1, np.random.default_rng(0))
    (folder / 'file').write_text('x')
    return folder


def cpu_seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.fixture(scope='module')
def torch_s():
    """CPU seconds that the import of torch takes on this machine."""
    before = cpu_seconds()
    subprocess.run([sys.executable, '-c', 'import torch'], check=True)
    return cpu_seconds() - before


@pytest.fixture(scope='module')
def run(folder):
    """Run a command next to a Hub: code, errors, CPU seconds, what the Hub was asked."""

    def call(command, *arguments):
        before = cpu_seconds()
        with serve_hub() as (hub, url):
            done = subprocess.run(
                [sys.executable, '-m', 'cuts3d_mm', command, *arguments],
                env={
                    **os.environ,
                    'PYTHONPATH': str(ROOT),
                    'HF_ENDPOINT': url,
                    'HF_HOME': str(folder / 'cache'),
                    'CUDA_VISIBLE_DEVICES': '',
                },
                cwd=folder,
                capture_output=True,
                text=True,
                check=False,
            )
        return done.returncode, done.stderr, cpu_seconds() - before, hub.requests

    return call


def replaced(command, old, new):
    return tuple(new if argument == old else argument for argument in COMMANDS[command])


MISTAKES = {
    **{
        f'{command} on a device that is none': (
            (command, *COMMANDS[command], '--device', 'gpu'),
            "device must be 'auto', 'cpu'",
        )
        for command in COMMANDS
    },
    **{
        f'{command} of no images': (
            (command, *replaced(command, 'images', 'nowhere')),
            'nowhere',
        )
        for command in ('generate', 'predict', 'detect')
    },
    **{
        f'{command} into a file': ((command, *replaced(command, 'out', 'file/x')), 'is a file')
        for command in ('generate', 'predict', 'detect')
    },
    'explain into a file': (
        ('explain', *COMMANDS['explain'], '--out', 'file/x.png'),
        'is a file',
    ),
    'explain of no image': (('explain', DINO, 'nowhere.png'), 'must be an image file'),
    **{
        f'{command} without its depth': (
            (command, *COMMANDS[command], '--depth', 'nowhere'),
            'depth folder must exist, got nowhere',
        )
        for command in ('generate', 'explain')
    },
    **{
        f'{command} with an unknown key of {part}': (
            (command, *COMMANDS[command], '--cfg-options', f'model.{part}.colour=3'),
            f'has no argument colour; it has {known}',
        )
        for command in ('generate', 'explain')
        for part, known in (('features', 'backbone'), ('depth', 'half'))
    },
    'generate with an unknown parameter': (
        ('generate', *COMMANDS['generate'], '--cfg-options', 'model.recipe.colour=3'),
        'recipe.colour',
    ),
    'predict with a score out of range': (
        ('predict', *COMMANDS['predict'], '--score-thr', '2'),
        'a share or score must lie in [0, 1], got 2',
    ),
}


@pytest.mark.parametrize('mistake', MISTAKES)
def test_a_mistake_is_said_before_the_hub_is_asked(run, torch_s, mistake):
    arguments, message = MISTAKES[mistake]
    most_s = MOST_S + torch_s if 'unknown key' in mistake else MOST_S
    for _ in range(5):  # the first compiles byte code, and a machine under load slows others
        code, err, seconds, asked = run(*arguments)
        if seconds < most_s:
            break
    assert code == 2 and message in err and err.count('\n') == 1, err
    assert asked == []
    assert seconds < most_s


@pytest.mark.parametrize('command', COMMANDS)
def test_a_gpu_that_is_not_there_is_said_before_the_hub_is_asked(run, command):
    code, err, _, asked = run(command, *COMMANDS[command], '--device', 'cuda')
    assert code == 2 and NO_GPU in err and err.count('\n') == 1, err
    assert asked == []
