"""Child registries of MMDetection's, scope `cuts3d_mm`.

`type='cuts3d_mm.Name'` resolves in any MMDetection config: the scope is imported on first
use and each registry then imports its locations.
"""

from __future__ import annotations

from mmdet.registry import DATA_SAMPLERS as MMDET_DATA_SAMPLERS
from mmdet.registry import DATASETS as MMDET_DATASETS
from mmdet.registry import HOOKS as MMDET_HOOKS
from mmdet.registry import METRICS as MMDET_METRICS
from mmdet.registry import MODELS as MMDET_MODELS
from mmdet.registry import OPTIM_WRAPPERS as MMDET_OPTIM_WRAPPERS
from mmdet.registry import TASK_UTILS as MMDET_TASK_UTILS
from mmdet.registry import TRANSFORMS as MMDET_TRANSFORMS
from mmengine.registry import Registry

__all__ = [
    'DATASETS',
    'DATA_SAMPLERS',
    'HOOKS',
    'METRICS',
    'MODELS',
    'OPTIM_WRAPPERS',
    'TASK_UTILS',
    'TRANSFORMS',
]


def _child_of(parent: Registry, locations: list[str]) -> Registry:
    registry = Registry(parent.name, parent=parent, scope='cuts3d_mm', locations=locations)
    # Without a default scope MMEngine's own registry is asked, which knows its children only.
    registry._get_root_registry().children.setdefault('cuts3d_mm', registry)
    return registry


MODELS = _child_of(
    MMDET_MODELS,
    [
        'cuts3d_mm.labellers.generator',
        'cuts3d_mm.labellers.features',
        'cuts3d_mm.labellers.depth',
        'cuts3d_mm.labellers.detector',
        'cuts3d_mm.models',
    ],
)
TASK_UTILS = _child_of(MMDET_TASK_UTILS, ['cuts3d_mm.models'])
DATASETS = _child_of(MMDET_DATASETS, ['cuts3d_mm.datasets'])
TRANSFORMS = _child_of(MMDET_TRANSFORMS, ['cuts3d_mm.datasets'])
METRICS = _child_of(MMDET_METRICS, ['cuts3d_mm.evaluation.class_agnostic_metric'])
HOOKS = _child_of(MMDET_HOOKS, ['cuts3d_mm.engine.hooks'])
DATA_SAMPLERS = _child_of(MMDET_DATA_SAMPLERS, ['cuts3d_mm.datasets'])
OPTIM_WRAPPERS = _child_of(MMDET_OPTIM_WRAPPERS, ['cuts3d_mm.engine.optim_wrappers'])
