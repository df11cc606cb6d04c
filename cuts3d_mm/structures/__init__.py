"""Annotations that know how far they can be trusted."""

from cuts3d_mm.structures.confidence_masks import ConfidenceBitmapMasks

__all__ = ['ConfidenceBitmapMasks']
