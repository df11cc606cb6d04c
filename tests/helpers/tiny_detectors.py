"""Detectors small enough for a test, batches for them, and releases of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.logging.history_buffer import HistoryBuffer
from mmengine.model import BaseModel
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from torch import distributed, nn
from torch.utils.data import DataLoader, Dataset

from cuts3d_mm.configs import load_config
from cuts3d_mm.datasets.samplers import SeededInfiniteSampler
from cuts3d_mm.engine.hooks import measure_norms, separate_batches
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


NUM_IMAGES = 12


class Images(Dataset):
    """Random crops: a sample depends on its index and on NumPy's global generator."""

    def __len__(self):
        return NUM_IMAGES

    def __getitem__(self, index):
        index.seed_generators()
        height = int(np.random.choice([4, 6]))
        values = np.random.default_rng(int(index)).normal(index, 1 + index, (3, 6, 8))
        return torch.tensor(values[:, 6 - height :] + np.random.normal(), dtype=torch.float32)


class Scale(nn.Module):
    """A data preprocessor."""

    def forward(self, data, training=False):
        assert training
        return {'inputs': [one * 0.1 for one in data]}


class ToyDetector(BaseModel):
    """A backbone and a neck with norms, a head with another and with noise, a frozen norm."""

    def __init__(self):
        torch.manual_seed(0)
        super().__init__(Scale())
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
        self.neck = nn.BatchNorm2d(2)
        self.head = nn.BatchNorm2d(2)
        self.frozen = nn.BatchNorm2d(3)
        self.seen = []

    def train(self, mode=True):
        super().train(mode)
        self.frozen.eval()
        return self

    def extract_feat(self, inputs):
        return [self.neck(self.backbone(self.frozen(one[None]))) for one in inputs]

    def forward(self, inputs, mode='loss'):
        self.seen.append([one.sum().item() for one in inputs])
        features = torch.cat([self.head(one).flatten() for one in self.extract_feat(inputs)])
        return {'loss': (features + torch.randn(features.shape)).square().mean()}


def loader_of(num_workers=0, seed=3):
    dataset = Images()
    return DataLoader(
        dataset,
        batch_size=2,
        sampler=SeededInfiniteSampler(dataset, seed=seed),
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        collate_fn=list,
    )


def measure_on_rank(rank, store, out):
    """Measure on one of two processes; what it saw and found goes to `out/RANK.pt`."""
    distributed.init_process_group('gloo', f'file://{store}', rank=rank, world_size=2)
    model = ToyDetector().train()
    with separate_batches(loader_of(), 3) as batches:
        kept = [next(batches) for _ in range(4)]
    measure_norms(model, kept, 4)
    torch.save((kept, model.neck.running_mean, model.neck.running_var), f'{out}/{rank}.pt')
    distributed.destroy_process_group()


def write_checkpoint(path, seed=0):
    """Random weights with the logs that MMEngine pickles, and a config; the config's path."""
    torch.manual_seed(seed)
    config = tiny_config(NARROW)
    weights = MODELS.build(config.model).state_dict()
    weights['roi_head.mask_head.0.conv_logits.bias'].fill_(1)  # or masks may be empty
    history = HistoryBuffer()
    history.update(1.0)
    torch.save(
        {
            'meta': {'dataset_meta': {'classes': ('object',)}, 'cfg': config.pretty_text},
            'state_dict': weights,
            'optimizer': {'state': {0: torch.ones(3)}},
            'message_hub': {'loss': history},
        },
        path,
    )
    path.with_suffix('.py').write_text(config.pretty_text)
    return str(path.with_suffix('.py'))
