"""Child registries of MMDetection's, scope `cuts3d_mm`.

`type='cuts3d_mm.Name'` resolves in any MMDetection config: the scope is imported on first
use and each registry then imports its locations. A config that inherits from one of ours is
built in our scope as a whole, so each registry of MMDetection has a child here, which finds
what its parents have.
"""

from __future__ import annotations

from mmdet import registry as mmdet
from mmengine.registry import Registry


def _child_of(parent: Registry, *locations: str) -> Registry:
    inherited = [
        location
        for registry in (parent, parent.parent)
        if registry is not None
        for location in registry._locations
    ]
    registry = Registry(
        parent.name, parent=parent, scope='cuts3d_mm', locations=[*inherited, *locations]
    )
    # Without a default scope MMEngine's own registry is asked, which knows its children only.
    registry._get_root_registry().children.setdefault('cuts3d_mm', registry)
    return registry


MODELS = _child_of(mmdet.MODELS, 'cuts3d_mm.models')
TASK_UTILS = _child_of(mmdet.TASK_UTILS, 'cuts3d_mm.models')
DATASETS = _child_of(mmdet.DATASETS, 'cuts3d_mm.datasets')
DATA_SAMPLERS = _child_of(mmdet.DATA_SAMPLERS, 'cuts3d_mm.datasets')
TRANSFORMS = _child_of(mmdet.TRANSFORMS, 'cuts3d_mm.datasets')
METRICS = _child_of(mmdet.METRICS, 'cuts3d_mm.evaluation.metric')
HOOKS = _child_of(mmdet.HOOKS, 'cuts3d_mm.engine.hooks')
OPTIM_WRAPPERS = _child_of(mmdet.OPTIM_WRAPPERS, 'cuts3d_mm.engine.optim_wrappers')
EVALUATOR = _child_of(mmdet.EVALUATOR)
LOG_PROCESSORS = _child_of(mmdet.LOG_PROCESSORS)
LOOPS = _child_of(mmdet.LOOPS, 'cuts3d_mm.engine.self_training')
MODEL_WRAPPERS = _child_of(mmdet.MODEL_WRAPPERS)
OPTIMIZERS = _child_of(mmdet.OPTIMIZERS)
OPTIM_WRAPPER_CONSTRUCTORS = _child_of(mmdet.OPTIM_WRAPPER_CONSTRUCTORS)
PARAM_SCHEDULERS = _child_of(mmdet.PARAM_SCHEDULERS)
RUNNERS = _child_of(mmdet.RUNNERS)
VISBACKENDS = _child_of(mmdet.VISBACKENDS)
VISUALIZERS = _child_of(mmdet.VISUALIZERS)
WEIGHT_INITIALIZERS = _child_of(mmdet.WEIGHT_INITIALIZERS)
