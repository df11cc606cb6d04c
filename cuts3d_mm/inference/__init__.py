"""Detect instances in images with trained detectors."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .inferencer import CutS3DInferencer, instances_of

__all__ = ['CutS3DInferencer', 'instances_of']


def __getattr__(name: str) -> Any:
    """Import the inferencer when it is asked for: MMDetection's API is slow to load and warns."""
    if name in __all__:
        from . import inferencer

        return getattr(inferencer, name)
    raise AttributeError(f'module {__name__} has no attribute {name}')
