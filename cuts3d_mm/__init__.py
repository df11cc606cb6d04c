"""CutS3D for MMDetection: find and outline objects without a single human label.

    >>> generator = cuts3d_mm.load_generator('cuts3d_color-texture_file-depth')
    >>> instances = generator.predict(image, depth=depth)      # (H, W, 3) uint8 RGB, (h, w)
    >>> detector = cuts3d_mm.load_detector('owner/repo')
    >>> instances = detector.predict(image)

Names are imported when they are first used: neither torch nor MMDetection is loaded before.
Where mmcv has no compiled operators, import this package before `mmdet`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from cuts3d_mm.mmengine_imports import find_our_configs
from cuts3d_mm.operators import offer_operators

if TYPE_CHECKING:
    from cuts3d_mm.algorithm.cut_instances import Instance
    from cuts3d_mm.algorithm.params import CutParams
    from cuts3d_mm.api import explain, list_configs, load_detector, load_generator
    from cuts3d_mm.labels.coco import read_labels

__version__ = '0.1.0'
__all__ = [
    'CutParams',
    'Instance',
    '__version__',
    'explain',
    'list_configs',
    'load_detector',
    'load_generator',
    'read_labels',
]

_PUBLIC = {  # name -> module that defines it
    'CutParams': 'cuts3d_mm.algorithm.params',
    'Instance': 'cuts3d_mm.algorithm.cut_instances',
    'explain': 'cuts3d_mm.api',
    'list_configs': 'cuts3d_mm.api',
    'load_detector': 'cuts3d_mm.api',
    'load_generator': 'cuts3d_mm.api',
    'read_labels': 'cuts3d_mm.labels.coco',
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _PUBLIC:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(globals().keys() | _PUBLIC.keys())


find_our_configs()
offer_operators()
