"""Masks that carry their confidence."""

from cuts3d_mm.structures.confidence_masks import ConfidenceBitmapMasks

__all__ = ['ConfidenceBitmapMasks']
