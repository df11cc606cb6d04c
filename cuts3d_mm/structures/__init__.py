"""Masks that carry their confidence."""

from .confidence_masks import ConfidenceBitmapMasks

__all__ = ['ConfidenceBitmapMasks']
