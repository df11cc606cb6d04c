"""Child registries of MMDetection's, scope `cuts3d_mm`.

`type='cuts3d_mm.Name'` resolves in any MMDetection config: the scope is imported on first
use and each registry then imports its locations.
"""

from __future__ import annotations

from mmdet.registry import MODELS as MMDET_MODELS
from mmengine.registry import Registry

__all__ = ['MODELS']

MODELS = Registry(
    'model',
    parent=MMDET_MODELS,
    scope='cuts3d_mm',
    locations=['cuts3d_mm.generation'],
)
