"""Configs of other projects that inherit from ours train, from a checkout and from a wheel."""

from __future__ import annotations

import sys
from functools import partial

import pytest
from helpers.training import SMALL, data_options, losses, run_warm, write_training_set

OURS = "'cuts3d_mm::demo/cuts3d_tiny-cascade-mask-rcnn_r18_scenes.py'"
# What MMDetection's tools/train.py does: it knows nothing of us.
MMDETECTION = """
import argparse
from mmengine.config import Config, DictAction
from mmengine.runner import Runner

parser = argparse.ArgumentParser()
parser.add_argument('config')
parser.add_argument('--work-dir')
parser.add_argument('--cfg-options', nargs='+', action=DictAction)
args = parser.parse_args()
config = Config.fromfile(args.config)
config.merge_from_dict(args.cfg_options)
config.work_dir = args.work_dir
Runner.from_cfg(config).train()
"""


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return write_training_set(tmp_path_factory.mktemp('scenes'))


def train(project, root, base, run_python):
    """Train a config of a project for two iterations."""
    config = [f'_base_ = {base}', 'train_cfg = dict(max_iters=2, val_interval=2)']
    (project / 'mine.py').write_text('\n'.join(config) + '\n')
    options = [*data_options(root, root / 'labels'), *SMALL]
    run_python('mine.py', '--work-dir', '.', '--cfg-options', *options)
    return losses(project)


@pytest.mark.slow
def test_a_foreign_config_trains_from_a_checkout_and_a_wheel_by_every_command(
    root, installed, tmp_path_factory, monkeypatch
):
    def in_checkout(*arguments):
        monkeypatch.chdir(folder)
        run_warm([sys.executable, '-m', 'cuts3d_mm', 'train', *arguments])

    folder = tmp_path_factory.mktemp('checkout')
    expected = train(folder, root, OURS, in_checkout)
    assert set(expected) == {1, 2}
    programs = {
        # What `mim train` and, as `test_wheel.py` shows, every command of the wheel runs.
        'train.py of the wheel': (OURS, installed.shipped / 'tools/train.py'),
        'train.py of MMDetection': (f"__import__('cuts3d_mm') and {OURS}", 'train.py'),
    }
    for name, (base, *program) in programs.items():
        folder = tmp_path_factory.mktemp('project')
        (folder / 'train.py').write_text(MMDETECTION)
        found = train(folder, root, base, partial(installed.run, folder, *program))
        assert found == expected, name
