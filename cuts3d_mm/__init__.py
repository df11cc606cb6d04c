"""CutS3D for MMDetection: find and outline objects without a single human label."""

from __future__ import annotations

from importlib.util import find_spec

__version__ = '0.1.0'


def _register_with_mmengine() -> None:
    """Let `_base_ = 'cuts3d_mm::...'` find the configs of this package."""
    if find_spec('mmengine') is None:  # the algorithm and the labels work without
        return
    from mmengine.config.utils import MODULE2PACKAGE

    MODULE2PACKAGE.setdefault('cuts3d_mm', 'cuts3d_mm')


_register_with_mmengine()
