"""Detect instances in images with trained detectors."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .inferencer import CutS3DInferencer

__all__ = ['CutS3DInferencer']


def __getattr__(name: str) -> Any:
    """Import the inferencer when it is asked for: MMDetection's API is slow to load and warns."""
    if name == 'CutS3DInferencer':
        from .inferencer import CutS3DInferencer

        return CutS3DInferencer
    raise AttributeError(f'module {__name__} has no attribute {name}')
