"""Masks that carry their doubt."""

from .confidence_masks import ConfidenceBitmapMasks

__all__ = ['ConfidenceBitmapMasks']
