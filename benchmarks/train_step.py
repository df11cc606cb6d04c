"""Our heads and loss against stock MMDetection on the same batch: time of one training step.

Mask R-CNN and Cascade Mask R-CNN with ResNet-18 from scratch; only heads, loss and samplers
differ. CPU seconds, interleaved:

    python benchmarks/train_step.py
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet.registry import MODELS
from mmengine.config import Config

sys.path.insert(0, str(Path(__file__).parents[1] / 'tests'))
from helpers.tiny_detectors import batch_of, tiny_config  # noqa: E402


def stock_of(model: Config) -> Config:
    """The same detector of MMDetection's own parts, with three mask heads as ours."""
    stock = copy.deepcopy(model)
    for head in stock.roi_head.bbox_head:
        head.type = 'Shared2FCBBoxHead'
        head.pop('drop_iou')
    head = stock.roi_head.mask_head
    head.type = 'FCNMaskHead'
    head.pop('confidence_source')
    head.loss_mask = {'type': 'CrossEntropyLoss', 'use_mask': True, 'loss_weight': 1.0}
    for stage in stock.train_cfg.rcnn:
        stage.sampler.type = 'RandomSampler'
    return stock


def ours_in_stock_cascade() -> Config:
    """Our heads, samplers and loss in `CascadeRoIHead`."""
    model = tiny_config().model
    model.roi_head.type = 'CascadeRoIHead'
    sampler = {'type': 'cuts3d_mm.PseudoLabelSampler', 'num': 128, 'pos_fraction': 0.25}
    for stage in model.train_cfg.rcnn:
        stage.sampler = copy.deepcopy(sampler)
    return model


def step_seconds(model: Any, inputs: torch.Tensor, samples: list[Any]) -> float:
    """CPU seconds of forward, loss and backward."""
    torch.manual_seed(0)
    start = time.process_time()
    losses, _ = model.parse_losses(model.loss(inputs, copy.deepcopy(samples)))
    losses.backward()
    seconds = time.process_time() - start
    model.zero_grad()
    return seconds


def main() -> None:
    """Print the step time of both, and the ratio with its spread."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--rounds', type=int, default=15)
    args = parser.parse_args()
    torch.set_num_threads(1)
    config = ours_in_stock_cascade()
    times: dict[str, list[float]] = {'stock': [], 'ours': []}
    models = {}
    for name, one in (('stock', stock_of(config)), ('ours', config)):
        torch.manual_seed(0)
        models[name] = MODELS.build(one).train()
    inputs, samples = batch_of((5, 3), np.random.default_rng(0), image_hw=(96, 128))
    for number in range(args.rounds + 2):
        for name, model in models.items():
            seconds = step_seconds(model, inputs, samples)
            if number > 1:  # the first rounds warm up
                times[name].append(seconds)
    ratios = np.array(times['ours']) / np.array(times['stock'])
    for name, values in times.items():
        print(f'{name:8s}{np.median(values):8.3f} s')
    print(f'ratio {np.median(ratios):.3f} (min {ratios.min():.3f}, max {ratios.max():.3f})')


if __name__ == '__main__':
    main()
