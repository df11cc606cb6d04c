"""Transforms that read and use the confidence of pseudo-labels."""

from cuts3d_mm.datasets.transforms.copy_paste import AlphaBlendCopyPaste, ConfidentCopyPaste
from cuts3d_mm.datasets.transforms.loading import LoadPseudoLabels

__all__ = ['AlphaBlendCopyPaste', 'ConfidentCopyPaste', 'LoadPseudoLabels']
