"""Configs of other projects that inherit from ours train, from a checkout and from a wheel."""

from __future__ import annotations

import sys

import pytest
from installed_wheel import ROOT, install_wheel
from training_runs import SMALL, losses, run, write_training_set

from cuts3d_mm.demo.training import data_options

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


def train(project, root, package, base, *program):
    """Train a config of a project for two iterations, the package taken from a folder."""
    config = [f'_base_ = {base}', 'train_cfg = dict(max_iters=2, val_interval=2)']
    (project / 'mine.py').write_text('\n'.join(config) + '\n')
    options = [*data_options(root, root / 'labels'), *SMALL]
    command = [sys.executable, *program, str(project / 'mine.py'), '--work-dir', str(project)]
    run([*command, '--cfg-options', *options], PYTHONPATH=str(package))
    return losses(project)


def test_a_foreign_config_trains_by_our_command_and_by_mmdetections(root, tmp_path_factory):
    ours = tmp_path_factory.mktemp('ours')
    by_ours = train(ours, root, ROOT, OURS, '-m', 'cuts3d_mm', 'train')
    theirs = tmp_path_factory.mktemp('theirs')
    (theirs / 'train.py').write_text(MMDETECTION)
    wheel = install_wheel(tmp_path_factory)
    base = f"__import__('cuts3d_mm') and {OURS}"
    by_theirs = train(theirs, root, wheel, base, str(theirs / 'train.py'))
    assert set(by_ours) == {1, 2} and by_theirs == by_ours
