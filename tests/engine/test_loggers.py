"""TensorBoard and W&B each take one option of a training."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
from mmdet.registry import VISUALIZERS
from mmdet.utils import register_all_modules

from cuts3d_mm.configs import load_config

CONFIG = 'cuts3d_cascade-mask-rcnn_r50_fpn_8xb2-amp-160k_imagenet'
written = []


class SummaryWriter:
    """Stands in for TensorBoard's writer."""

    def __init__(self, folder):
        self.folder = folder

    def add_scalar(self, name, value, step):
        written.append((name, value, step))

    def close(self):
        pass


@pytest.fixture
def visualizer(monkeypatch, tmp_path):
    def build(*options):
        config = load_config(CONFIG, list(options))
        register_all_modules()
        for name, stand_in in packages.items():
            monkeypatch.setitem(sys.modules, name, stand_in)
        given = {'save_dir': str(tmp_path), 'name': '_'.join(options)}
        return VISUALIZERS.build({**config.visualizer, **given})

    written.clear()
    wandb = SimpleNamespace(
        init=lambda **given: written.append(given),
        log=lambda values, **_: written.append(values),
    )
    packages = {
        'torch.utils.tensorboard': SimpleNamespace(SummaryWriter=SummaryWriter),
        'wandb': wandb,
    }
    return build


def test_tensorboard_gets_the_losses(visualizer):
    built = visualizer('visualizer.vis_backends.0.type=TensorboardVisBackend')
    built.add_scalar('loss', 1.5, 7)
    assert written == [('loss', 1.5, 7)]


def test_wandb_gets_the_losses_in_a_project(visualizer):
    built = visualizer(
        'visualizer.vis_backends.0.type=WandbVisBackend',
        'visualizer.vis_backends.0.init_kwargs.project=cuts3d',
    )
    built.add_scalar('loss', 1.5, 7)
    assert written[0]['project'] == 'cuts3d' and {'loss': 1.5} in written
