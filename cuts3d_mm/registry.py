"""Child registries of MMDetection's, scope `cuts3d_mm`.

`type='cuts3d_mm.Name'` resolves in any MMDetection config: the scope is imported on first
use and each registry then imports its locations.
"""

from __future__ import annotations

from mmdet.registry import DATASETS as MMDET_DATASETS
from mmdet.registry import METRICS as MMDET_METRICS
from mmdet.registry import MODELS as MMDET_MODELS
from mmdet.registry import TASK_UTILS as MMDET_TASK_UTILS
from mmdet.registry import TRANSFORMS as MMDET_TRANSFORMS
from mmengine.registry import Registry

__all__ = ['DATASETS', 'METRICS', 'MODELS', 'TASK_UTILS', 'TRANSFORMS']

MODELS = Registry(
    'model',
    parent=MMDET_MODELS,
    scope='cuts3d_mm',
    locations=['cuts3d_mm.generation', 'cuts3d_mm.models'],
)
TASK_UTILS = Registry(
    'task util',
    parent=MMDET_TASK_UTILS,
    scope='cuts3d_mm',
    locations=['cuts3d_mm.models'],
)
DATASETS = Registry(
    'dataset',
    parent=MMDET_DATASETS,
    scope='cuts3d_mm',
    locations=['cuts3d_mm.datasets'],
)
TRANSFORMS = Registry(
    'transform',
    parent=MMDET_TRANSFORMS,
    scope='cuts3d_mm',
    locations=['cuts3d_mm.datasets'],
)
METRICS = Registry(
    'metric',
    parent=MMDET_METRICS,
    scope='cuts3d_mm',
    locations=['cuts3d_mm.evaluation.class_agnostic_metric'],
)
