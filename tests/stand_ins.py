"""Tiny stand-ins for the networks, data and schedules of the shipped configs."""

from __future__ import annotations

import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config

from cuts3d_mm.configs import find_config
from cuts3d_mm.images.reading import ImageFailure
from cuts3d_mm.labellers.detector import DetectorOutput, read_detections
from cuts3d_mm.labellers.generator import Stage

CHANNELS = 16
INPUT_HW = (64, 64)
SCALE = (96, 64)  # of images in training and test, pixels
VIT = {'embed_dims': 32, 'num_layers': 2, 'num_heads': 2, 'feedforward_channels': 64}


class Blind:
    """A labeller that finds nothing."""

    def predict_batch(self, images):
        return [() for _ in images]


class Halving:
    """A labeller whose device has memory for one image; 'b' cannot be cut, 'c' kills."""

    def extract(self, images):
        if len(images) > 1:
            raise MemoryError('one image only')
        return [(image.name, image.pixels) for image in images]

    @property
    def stages(self):
        return (Stage('cut', cut_by_name),)

    def predict_batch(self, images):
        return [self.stages[0].run(found) for found in self.extract(images)]


class Nothing:
    """A detector that finds nothing, and has masks of that."""

    stages = (Stage('unpack', partial(read_detections, confidence_source='none')),)

    def extract(self, images):
        nothing = DetectorOutput((), np.zeros(0), (60, 88))
        return [nothing for _ in images]


class Greedy:
    """A labeller whose masks need more memory than there is."""

    stages = ()

    class Instance:
        confidence, score = None, 0.5

        @property
        def mask(self):
            raise MemoryError('masks')

    def extract(self, images):
        return [[self.Instance()] for _ in images]


def cut_by_name(found):
    name, _ = found
    if name.startswith('b'):
        raise ImageFailure('cannot be cut')
    if name.startswith('c'):
        os.kill(os.getpid(), signal.SIGKILL)
    return []


def tiny_generator(name: str) -> Config:
    """A generator config with a tiny ViT of random weights on 64 px.

    Patches of 4 px, so that neighbours in the grid are nearer than `tau_knn`. Random features
    are all alike, so that NCut's threshold is higher; the rest of the recipe stays.
    """
    config = Config.fromfile(str(find_config(name)))
    config.model.input_hw = INPUT_HW
    config.model.features.checkpoint = None
    config.model.recipe.ncut = {'tau_ncut': 0.7}
    config.model.features.backbone = {'arch': VIT, 'patch_size': 4, 'img_size': 64}
    return config


def tiny_data(name: str) -> Config:
    """A detector config whose images are small, loaded in this process."""
    config = Config.fromfile(str(find_config(name)))
    for key in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        config[key].update(num_workers=0, persistent_workers=False)
    _shrink_images(config)
    return config


def tiny_training(name: str) -> tuple[Config, int]:
    """A detector config with ResNet-18, narrow heads and two iterations, or one a round.

    Returns:
        The config, and the iterations that the shipped one trains for.
    """
    config = tiny_data(name)
    shrink_model(config.model)
    iterations = config.train_cfg.max_iters
    hooks = {hook.type.rpartition('.')[2]: hook for hook in config.custom_hooks}
    hooks['PreciseBNHook'].num_iters = 1
    wrappers = [config.optim_wrapper]
    num_rounds = 1
    if 'rounds' in config.train_cfg:
        rounds = config.train_cfg.rounds
        for begin, one in enumerate(rounds, 1):
            one.begin = begin
        num_rounds = len(rounds)
        wrappers.append(config.train_cfg.optim_wrapper)
    for wrapper in wrappers:  # mixed precision needs a GPU
        wrapper.type = wrapper.type.replace('Amp', '')
    config.train_cfg.update(max_iters=num_rounds + 1, val_interval=num_rounds + 1)
    config.default_hooks.checkpoint.interval = num_rounds + 1
    return config, iterations


def _shrink_images(config: Config) -> None:
    pipelines = _lists_of(config._cfg_dict, 'pipeline')
    assert pipelines
    for step in (step for pipeline in pipelines for step in pipeline):
        for key, value in (('scale', SCALE), ('scales', [SCALE])):
            if 'Resize' in step.type and key in step:
                step[key] = value


def _lists_of(part: Any, key: str) -> list[Any]:
    """Values of a key that are lists, wherever they are in a config."""
    found = []
    if isinstance(part, dict):
        found = [value for name, value in part.items() if name == key and isinstance(value, list)]
    children = part.values() if isinstance(part, dict) else part
    for child in children if isinstance(part, (dict, list, tuple)) else ():
        found += _lists_of(child, key)
    return found


def shrink_model(model: Any) -> None:
    """Give a detector a narrow ResNet-18, narrow heads and few proposals."""
    norm = {'type': 'BN', 'requires_grad': True}
    model.backbone.update(depth=18, base_channels=CHANNELS, norm_cfg=norm, init_cfg=None)
    widths = [CHANNELS << stage for stage in range(4)]
    model.neck.update(in_channels=widths, out_channels=CHANNELS, norm_cfg=norm)
    model.rpn_head.update(in_channels=CHANNELS, feat_channels=CHANNELS)
    roi_head = model.roi_head
    for part in (roi_head.bbox_roi_extractor, roi_head.mask_roi_extractor):
        part.out_channels = CHANNELS
    heads = roi_head.bbox_head if isinstance(roi_head.bbox_head, list) else [roi_head.bbox_head]
    for head in heads:
        head.update(in_channels=CHANNELS, fc_out_channels=2 * CHANNELS)
    roi_head.mask_head.update(num_convs=1, in_channels=CHANNELS, conv_out_channels=CHANNELS)
    model.train_cfg.rpn_proposal.update(nms_pre=50, max_per_img=50)
    model.test_cfg.rpn.update(nms_pre=20, max_per_img=20)
    model.test_cfg.rcnn.max_per_img = 10


def write_config(config: Config, path: Path) -> str:
    """Write a config where a command can be given it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    config.dump(str(path))
    return str(path)
