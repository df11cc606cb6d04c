"""Detectors small enough for a test, and batches for them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

from cuts3d_mm.configs import load_config
from cuts3d_mm.structures import ConfidenceBitmapMasks

TINY = 'cuts3d_tiny-cascade-mask-rcnn_r18_scenes.py'
IMAGE_HW = (96, 128)
_CHANNELS = 8
_WIDTHS = ','.join(str(_CHANNELS << stage) for stage in range(4))
NARROW = [  # a checkpoint of one megabyte instead of a hundred
    f'model.backbone.base_channels={_CHANNELS}',
    f'model.neck.in_channels=[{_WIDTHS}]',
    f'model.neck.out_channels={_CHANNELS}',
    *(f'model.rpn_head.{key}_channels={_CHANNELS}' for key in ('in', 'feat')),
    *(f'model.roi_head.{key}_roi_extractor.out_channels={_CHANNELS}' for key in ('bbox', 'mask')),
    *(f'model.roi_head.bbox_head.{stage}.in_channels={_CHANNELS}' for stage in range(3)),
    *(f'model.roi_head.bbox_head.{stage}.fc_out_channels={2 * _CHANNELS}' for stage in range(3)),
    *(f'model.roi_head.mask_head.{key}_channels={_CHANNELS}' for key in ('in', 'conv_out')),
]


def tiny_config(options: Sequence[str] = ()) -> Config:
    """The demo's config."""
    init_default_scope('mmdet')
    return load_config(TINY, options)


def instances_of(count, rng, certain=False, plain=False, image_hw=IMAGE_HW):
    """Rectangles with doubt, as annotations."""
    corners = rng.uniform(2, [image_hw[1] * 0.6, image_hw[0] * 0.6], (count, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(15, 35, (count, 2))], axis=1)
    boxes = boxes.reshape(-1, 4).astype(np.float32)
    masks = np.zeros((count, *image_hw), np.uint8)
    for mask, (left, top, right, bottom) in zip(masks, boxes.round().astype(int), strict=True):
        mask[top:bottom, left:right] = 1
    doubt = np.zeros_like(masks) if certain else rng.integers(0, 128, masks.shape, np.uint8)
    scores = np.ones(count, np.float32) if certain else rng.uniform(0.3, 1, count).astype('f4')
    bitmaps = ConfidenceBitmapMasks(masks, *image_hw, doubt, scores)
    if plain:
        bitmaps = BitmapMasks(masks, *image_hw)
    return InstanceData(
        bboxes=torch.from_numpy(boxes), labels=torch.zeros(count, dtype=torch.long), masks=bitmaps
    )


def batch_of(counts, rng, **options):
    """Images and data samples, one with so many instances each."""
    samples = []
    for count in counts:
        sample = DetDataSample(
            metainfo=dict(
                img_shape=IMAGE_HW,
                ori_shape=IMAGE_HW,
                scale_factor=(1.0, 1.0),
                batch_input_shape=IMAGE_HW,
                pad_shape=IMAGE_HW,
            )
        )
        sample.gt_instances = instances_of(count, rng, **options)
        sample.ignored_instances = InstanceData(bboxes=torch.empty(0, 4), labels=torch.empty(0))
        samples.append(sample)
    return torch.tensor(rng.normal(size=(len(counts), 3, *IMAGE_HW)), dtype=torch.float32), samples
