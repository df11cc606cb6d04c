"""Draw samples of the training data of a config."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.registry import init_default_scope

from cuts3d_mm.datasets.samplers import SeededInfiniteSampler
from cuts3d_mm.structures.confidence_masks import ConfidenceBitmapMasks
from cuts3d_mm.visualization.overlays import draw_sample
from cuts3d_mm.visualization.pictures import save_picture


def browse(config: Config, count: int, seed: int, out: Path) -> list[Path]:
    """Draw samples of the training data set into a folder; the paths of the PNG files.

    The seed is of the order and of the random transforms.
    """
    init_default_scope(config.get('default_scope', 'mmdet'))
    dataset = DATASETS.build(config.train_dataloader.dataset)
    out.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, index in enumerate(islice(SeededInfiniteSampler(dataset, seed=seed), count)):
        index.seed_generators()
        paths.append(out / f'{number:04d}.png')
        save_picture(paths[-1], _draw(dataset[index]))
    return paths


def _draw(sample: dict[str, Any]) -> np.ndarray:
    image = sample['inputs'].permute(1, 2, 0).numpy()[..., ::-1]
    instances = sample['data_samples'].gt_instances
    masks = ConfidenceBitmapMasks.certain(instances.masks)
    boxes = getattr(instances.bboxes, 'tensor', instances.bboxes).numpy()
    return draw_sample(image, boxes, masks.masks > 0, masks.doubt, masks.is_pasted)
