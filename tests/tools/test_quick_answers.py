"""Help and mistakes of the user are answered at once, before anything heavy is imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.commands import quick_answer

from cuts3d_mm.cli import GROUPS, list_tools

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
COMMANDS = sorted(path.stem.replace('_', '-') for path in (ROOT / 'tools').glob('*.py'))
MOST_S = 0.5  # of CPU, byte code compiled
VIT = 'cuts3d_dino-vitb8_zoedepth'
FILES = 'cuts3d_color-texture_file-depth'


@pytest.mark.parametrize('command', COMMANDS)
def test_help_is_quick(command):
    answer = quick_answer(MOST_S, command, '--help')
    assert answer.returncode == 0 and f'usage: cuts3d {command}' in answer.stdout


TINY = 'cuts3d_tiny-cascade-mask-rcnn_r18_scenes'
NO_CONFIG = 'CONFIG must be a file or a shipped'
NO_WEIGHTS = 'checkpoint must be a file, found none at /no.pth'
NO_STORE = '/nowhere must be a label store'
NO_LABELS = 'LABELS must be a label store or a COCO JSON, found nothing at /nowhere'
HERE = Path(__file__).parent


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (('configs', 'cuts4d'), 'WORD must occur in a config'),
        (('generatee',), "no command 'generatee'; did you mean generate?"),
        (('app', '--config', 'cuts4d'), NO_CONFIG),
        (('browse', 'cuts4d'), NO_CONFIG),
        (('convert', 'labels', '/nowhere', 'out'), NO_LABELS),
        (('convert', 'detectron2', '/no.pth', 'out'), NO_WEIGHTS),
        (('depth', '/nowhere', 'out'), 'IMAGES must be a folder, an image, a text'),
        (('depth', HERE, 'out', '--network', 'cuts4d'), NO_CONFIG),
        (('describe', '/nowhere'), NO_LABELS),
        (('detect', '/nowhere', '--model', TINY), 'INPUT must be an image, a folder'),
        (('detect', HERE, '--model', TINY, '--weights', '/no.pth'), NO_WEIGHTS),
        (('detect', HERE), 'must name a detector, got neither'),
        (
            ('detect', HERE, '--model', 'cuts4d'),
            'owner/repo on the Hugging Face Hub, a folder that',
        ),
        (('detect', HERE, '--model', TINY), 'is a config without weights; pass --weights'),
        (('doctor', 'me'), 'unrecognized arguments: me'),
        (('download', 'nowhere'), 'Hub repository must be owner/repo[@revision], got nowhere'),
        (('evaluate-suite', TINY, '/no.pth', HERE, 'out'), NO_WEIGHTS),
        (
            ('evaluate-suite', TINY, __file__, '/nowhere', 'out'),
            'DATA must be a folder, found none',
        ),
        (('explain', VIT, '/nowhere.png'), 'IMAGE must be an image file, found none at'),
        (('explain', FILES, __file__, '--depth', '/nowhere'), 'depth folder must exist'),
        (('export', '/nowhere', 'out'), NO_STORE),
        (('generate', FILES, '/nowhere', 'out'), 'IMAGES must be a folder, an image, a text'),
        (('generate', FILES, '/tmp', '/nowhere/out'), 'depth folder must exist, got depth'),
        (('generate', 'cuts4d', '/tmp', '/nowhere/out'), '; cuts3d configs lists all'),
        (('generate', HERE, FILES, 'out'), f'IMAGES, got them swapped: cuts3d generate {FILES}'),
        (('learn', '/nowhere', 'out'), 'IMAGES must be a folder, an image, a text'),
        (('learn', HERE, 'out', '--steps', '0'), '--steps: must be a number from 1 on, got 0'),
        (('learn', HERE, 'out', '--config', 'cuts4d'), NO_CONFIG),
        (('learn', HERE, 'out', '--seed', '-1'), '--seed: must be a number from 0 on, got -1'),
        (('merge-labels', '/nowhere', '/nowhere', 'out'), NO_STORE),
        (('browse-labels', '/nowhere', '--images', HERE), NO_LABELS),
        (('predict', TINY, '/no.pth', HERE, 'out'), NO_WEIGHTS),
        (('prepare', 'voc', '/nowhere', 'out'), 'SRC must be a folder, found none: /nowhere'),
        (('publish', TINY, '/no.pth', '--repo', 'a/b'), NO_WEIGHTS),
        (('score', '/nowhere', __file__), NO_LABELS),
        (('score', HERE, '/nowhere'), 'ANNOTATIONS must be a file, found none: /nowhere'),
        (('test', TINY, '/no.pth'), NO_WEIGHTS),
        (('test', TINY, __file__), 'nothing for test_dataloader.dataset.ann_file (demo_out/'),
        (('train', 'cuts4d'), NO_CONFIG),
        (('train', TINY), 'cuts3d generate makes labels; name others by --cfg-options'),
        (('train', TINY), 'without annotations: val_cfg=None val_dataloader=None val_eval'),
        (('train', TINY, '--work-dir', __file__), '--work-dir must be a folder'),
        (('view', '/nowhere', HERE, 'out'), NO_LABELS),
    ],
)
def test_a_mistake_is_told_quickly(arguments, message):
    answer = quick_answer(MOST_S, *arguments)
    assert answer.returncode == 2 and message in answer.stderr


def test_each_command_stands_in_a_group_of_the_overview():
    named = [name for names in GROUPS.values() for name in names]
    assert sorted(named) == sorted(list_tools())


def test_help_of_a_command_can_be_asked_for_in_words():
    asked = (quick_answer(MOST_S, *words) for words in (('help', 'view'), ('view', '--help')))
    first, second = (answer.stdout for answer in asked)
    assert first == second and 'usage: cuts3d view' in first


@pytest.mark.parametrize('words', [(), ('configs',)])
def test_a_reader_that_ends_is_no_error(words):
    reads, writes = os.pipe()
    os.close(reads)
    with os.fdopen(writes, 'wb') as unread:
        command = [sys.executable, '-m', 'cuts3d_mm', *words]
        done = subprocess.run(command, stdout=unread, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (141, '')


@pytest.mark.parametrize(
    ('line', 'expected'),
    [
        ('cuts3d gen', ['generate']),
        ('cuts3d detect --mo', ['--model']),
        ('cuts3d generate maskcut_c', ['maskcut_color-texture']),
        ('cuts3d train cuts3d_tiny', [TINY, f'{TINY}-self-training']),
    ],
)
def test_a_shell_completes_commands_options_and_configs(tmp_path, line, expected):
    pytest.importorskip('argcomplete')
    found = tmp_path / 'found'
    asked = {'_ARGCOMPLETE': '1', '_ARGCOMPLETE_STDOUT_FILENAME': str(found)}
    asked |= {'COMP_LINE': line, 'COMP_POINT': str(len(line)), '_ARGCOMPLETE_IFS': '\n'}
    command = [sys.executable, '-m', 'cuts3d_mm']
    subprocess.run(command, check=True, env={**os.environ, **asked}, capture_output=True)
    assert sorted(word.strip() for word in found.read_text().split('\n')) == expected
