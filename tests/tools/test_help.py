"""Every command explains itself by the same words, and its examples run as typed."""

from __future__ import annotations

import argparse
import runpy
import shlex
import shutil
import sys
from pathlib import Path

import pytest
from helpers.drawn import write_depths, write_images

ROOT = Path(__file__).parents[2]
TOOLS = {path.stem.replace('_', '-'): path for path in sorted((ROOT / 'tools').glob('*.py'))}
# One word for one thing. Positional arguments come in this order.
POSITIONAL = [
    *('CONFIG', 'CHECKPOINT', 'NAME', 'OWNER/NAME[@REVISION]', 'detectron2|dino|labels', 'INPUT'),
    *('IMAGE', 'NEW', 'OLD', 'STORE', 'LABELS', 'ANNOTATIONS', 'NAMES', 'SRC', 'DATA'),
    *('IMAGES', 'OUT'),
    'WORD',
]
OPTION_VALUES = {
    *('N', 'I/N', 'DIR', 'FILE', 'NAME', 'SCORE', 'SHARE', 'IOU', 'KEY=VALUE', 'CONFIG'),
    *('CHECKPOINT', 'LABELS', 'STORE', 'OWNER/NAME', 'MODEL', 'TIME', 'RANGE'),
}
RUN = {'convert', 'describe', 'doctor', 'explain', 'export', 'generate', 'group', 'score', 'view'}


def parser_of(command, monkeypatch):
    """The parser of a command, as it is when it reads its arguments."""
    seen = []

    def keep(self, *_):
        seen.append(self)
        raise StopIteration

    with monkeypatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, 'parse_args', keep)
        patch.setattr(sys, 'argv', [f'cuts3d {command}'])
        with pytest.raises(StopIteration):
            runpy.run_path(str(TOOLS[command]))['parse_args']()
    return seen[0]


def examples(command):
    """The lines of a command's examples, as words without `cuts3d`."""
    text = runpy.run_path(str(TOOLS[command]))['__doc__'].partition('Examples:\n')[2]
    lines = text.replace('\\\n', ' ').splitlines()
    return [shlex.split(line)[1:] for line in lines if line.strip().startswith('cuts3d ')]


@pytest.mark.parametrize('command', TOOLS)
def test_help_is_a_sentence_examples_and_the_same_words_everywhere(command, monkeypatch):
    parser = parser_of(command, monkeypatch)
    assert parser.description.endswith('.') and '\n' not in parser.description
    assert examples(command) and all(words[0] == command for words in examples(command))
    names = [action.metavar for action in parser._actions if not action.option_strings]
    assert names == sorted(names, key=POSITIONAL.index)
    for action in parser._actions:
        assert action.help, action
        takes_value = action.option_strings and action.nargs != 0 and not action.choices
        name = action.metavar or action.dest.upper()
        known = OPTION_VALUES | {option[2:].upper() for option in action.option_strings}
        assert not takes_value or name.replace('_', '-') in known, action


@pytest.mark.parametrize('command', TOOLS)
def test_help_shows_every_default_once(command, monkeypatch):
    monkeypatch.setenv('COLUMNS', '400')
    parser = parser_of(command, monkeypatch)
    text = ' '.join(parser.format_help().split())
    for action in parser._actions:
        if action.default not in (None, False, argparse.SUPPRESS) and action.default != []:
            shown = parser._get_formatter()._get_help_string(action)
            assert shown.replace('%(default)s', '').count('(default') == 1, action
            assert ' '.join((shown % vars(action)).split()) in text


@pytest.fixture
def folder(tmp_path, rng, monkeypatch):
    """What the examples name."""
    names = write_images(tmp_path / 'images', 3, rng)
    write_depths(tmp_path / 'depth', names, rng)
    shutil.copy(tmp_path / 'images' / names[0], tmp_path / 'images/a.jpg')
    shutil.copy((tmp_path / 'depth' / names[0]).with_suffix('.npy'), tmp_path / 'depth/a.npy')
    for name in (
        'data/official/voc',
        'data/coco',
        'data/evaluation',
        'learned/release',
        'demo_out/learned_0',
    ):
        (tmp_path / name).mkdir(parents=True)
    for name in (
        *('clip.mp4', 'iter_200.pth', 'iter_160000.pth', 'cutler_cascade_final.pth'),
        *('dino_RN50_pretrain_d2_format.pkl', 'learned/release/config.json'),
        'demo_out/learned_0/training.py',
    ):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_the_examples_of_every_command_run_as_typed(folder, cuts3d, monkeypatch):
    first = ['generate', 'export', 'group']
    order = [*first, *sorted(TOOLS.keys() - set(first))]
    for command in order:
        for words in examples(command):
            if command in RUN and not {'detectron2', 'dino'} & set(words):
                code, _, err = cuts3d(command, *words[1:])
                assert code == 0 or command == 'doctor', (words, err)
            else:
                monkeypatch.setattr(sys, 'argv', [f'cuts3d {command}', *words[1:]])
                runpy.run_path(str(TOOLS[command]))['parse_args']()
        if command == 'group':
            Path('groups/names.json').touch()
        if command == 'export':
            shutil.copy('labels.json', 'annotations.json')
            shutil.copytree('labels', 'predicted')
