"""Mistakes in arguments end a command before it asks the Hub or imports what takes seconds."""

from __future__ import annotations

import subprocess
import sys

import pytest
from helpers.commands import cpu_seconds, quick_answer
from helpers.drawn import write_images
from helpers.servers import serve_hub

pytestmark = pytest.mark.slow
DINO = 'cuts3d_dino-vitb8_zoedepth'
TRAINED = 'cuts3d_cascade-mask-rcnn_r50_fpn_8xb2-amp-160k_imagenet'
WEIGHTS = 'hf://owner/repo/model.safetensors'
MOST_S = 2.0  # CPU time; an unknown key costs the import of its class on top, which needs torch
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


@pytest.fixture(scope='module')
def torch_s():
    """CPU seconds that the import of torch takes on this machine."""
    before = cpu_seconds()
    subprocess.run([sys.executable, '-c', 'import torch'], check=True)
    return cpu_seconds() - before


@pytest.fixture(scope='module')
def refused(folder):
    """Check that a command is refused in one line, before it asks the Hub that runs next to it."""

    def check(message, most_s, *arguments):
        with serve_hub() as (hub, url):
            env = {'HF_ENDPOINT': url, 'HF_HOME': folder / 'cache', 'CUDA_VISIBLE_DEVICES': ''}
            answer = quick_answer(most_s, *arguments, cwd=folder, **env)
        assert answer.returncode == 2 and message in answer.stderr, answer.stderr
        assert answer.stderr.count('\n') == 1 and hub.requests == []

    return check


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
    'predict of no images': (('predict', *replaced('predict', 'images', 'nowhere')), 'nowhere'),
    **{
        f'{command} into a file': ((command, *replaced(command, 'out', 'file/x')), 'is a file')
        for command in ('generate', 'predict', 'detect')
    },
    'explain into a file': (
        ('explain', *COMMANDS['explain'], '--out', 'file/x.png'),
        'is a file',
    ),
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
        '--score-thr must lie in [0, 1], got 2',
    ),
}


@pytest.mark.parametrize('mistake', MISTAKES)
def test_a_mistake_is_said_before_the_hub_is_asked(refused, torch_s, mistake):
    arguments, message = MISTAKES[mistake]
    most_s = MOST_S + torch_s if 'unknown key' in mistake else MOST_S
    refused(message, most_s, *arguments)


@pytest.mark.parametrize('command', COMMANDS)
def test_a_gpu_that_is_not_there_is_said_before_the_hub_is_asked(refused, command):
    refused(NO_GPU, float('inf'), command, *COMMANDS[command], '--device', 'cuda')
