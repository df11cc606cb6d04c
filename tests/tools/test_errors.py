"""A command that fails says so in a line; the traceback of a bug is in a file."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.drawn import MASKCUT, write_images

from cuts3d_mm.cli import EXIT_BUG, EXIT_USAGE, report
from cuts3d_mm.configs import read_generator_config
from cuts3d_mm.images.listing import list_images
from cuts3d_mm.labellers.registry import check_labeller
from cuts3d_mm.pipeline.local import LocalExecutor
from cuts3d_mm.pipeline.run import Split, WorkerLost, label_images
from cuts3d_mm.pipeline.work import ConfiguredLabeller, WorkOrder
from cuts3d_mm.registry import MODELS
from cuts3d_mm.structures import ConfidenceBitmapMasks

SCRIPT = """
import sys
from cuts3d_mm.cli import run_command
sys.argv = ['generate.py']
def main():
    raise {error}
run_command(main)
"""


def run(error, tmp_path, **env):
    done = subprocess.run(
        [sys.executable, '-c', SCRIPT.format(error=error)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, 'TMPDIR': str(tmp_path), **env},
    )
    return done.returncode, done.stderr


def test_a_bug_is_one_line_and_a_log_with_the_traceback(tmp_path):
    code, text = run("KeyError('x')", tmp_path)
    assert code == EXIT_BUG and text.count('\n') == 1 and 'Traceback' not in text
    assert text.startswith("cuts3d generate: this is a bug of ours: KeyError: 'x'; ")
    (log,) = re.findall(r'\S+\.log', text)
    assert log.startswith(str(tmp_path)) and os.stat(log).st_mode & 0o77 == 0
    assert 'Traceback' in Path(log).read_text() and 'cuts3d_mm 0.' in Path(log).read_text()


@pytest.mark.parametrize(
    'error', ["ValueError('so')", "FileNotFoundError('so')", "ImportError('so')", 'MemoryError()']
)
def test_what_the_user_can_correct_is_one_line(tmp_path, error):
    code, text = run(error, tmp_path)
    assert code == EXIT_USAGE and text in (
        'cuts3d generate: so\n',
        'cuts3d generate: MemoryError\n',
    )
    assert not list(tmp_path.iterdir())


def test_debugging_shows_the_traceback(tmp_path):
    code, text = run("ValueError('so')", tmp_path, CUTS3D_DEBUG='1')
    assert code == EXIT_USAGE and 'Traceback' in text and text.endswith('generate: so\n')


def test_a_type_error_that_we_raise_with_a_remedy_is_for_the_user(capsys):
    with pytest.raises(TypeError) as caught:
        ConfidenceBitmapMasks.certain('polygons')
    assert report(caught.value, 'cuts3d train') == EXIT_USAGE
    assert 'bug' not in capsys.readouterr().err


@pytest.mark.parametrize(
    ('text', 'reason'),
    [
        ('model = dict(', "'(' was never closed"),
        ('model = dict(type=Foo)', "name 'Foo' is not defined"),
        ('custom_imports = 3', 'must be a mapping'),
        ('_base_ = "nowhere.py"', 'nowhere.py'),
    ],
)
def test_a_config_that_cannot_be_read_is_a_mistake_of_the_user_with_its_path(
    tmp_path, text, reason
):
    config = tmp_path / 'mine.py'
    config.write_text(text)
    with pytest.raises(ValueError, match='correct it') as caught:
        read_generator_config(str(config), [])
    assert str(caught.value).startswith(f'CONFIG {config} must be') and reason in str(caught.value)


def test_a_value_of_the_wrong_type_is_named_with_its_argument():
    model = {**MASKCUT, 'input_hw': 480}
    with pytest.raises(ValueError, match='PseudoLabelGenerator must have input_hw of type tuple'):
        check_labeller(model)


@pytest.mark.parametrize(
    'changes', [{'depth': 7}, {'depth': 18, 'foo': 1}, {'depth': 18, 'type': 'mmdet.Nothing'}]
)
def test_what_cannot_be_built_from_a_config_is_no_bug_of_ours(capsys, changes):
    with pytest.raises((KeyError, TypeError)) as caught:
        MODELS.build({'type': 'mmdet.ResNet', **changes})
    assert report(caught.value, 'cuts3d train') == EXIT_USAGE
    assert 'CONFIG must describe parts that can be built, got' in capsys.readouterr().err


@pytest.mark.slow
def test_a_bug_in_a_worker_ends_the_run_and_its_traceback_is_in_the_log(
    tmp_path, rng, capsys, monkeypatch
):
    class Silent:
        start = add = staticmethod(lambda *_: None)

    monkeypatch.setattr('tempfile.tempdir', str(tmp_path))
    write_images(tmp_path / 'images', 1, rng)
    images = list_images(tmp_path / 'images')
    order = WorkOrder(
        ConfiguredLabeller(MASKCUT), None, tmp_path / 'out', 1
    )  # no folder to look in
    with pytest.raises(TypeError) as caught:
        label_images(order, images, LocalExecutor(1), Split(), Silent())
    assert report(caught.value, 'cuts3d generate') == EXIT_BUG
    output = capsys.readouterr().err
    (log,) = re.findall(r'\S+\.log', output)
    assert 'in _batches_of' in Path(log).read_text() and 'Traceback' not in output


def test_a_lost_worker_is_for_the_user(capsys):
    assert report(WorkerLost('a worker process died'), 'cuts3d generate') == EXIT_USAGE
