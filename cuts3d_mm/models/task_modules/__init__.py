"""Samplers that give the box head what DropLoss and soft targets need."""

from cuts3d_mm.models.roi_heads import PseudoLabelSampler, RelabelSampler

__all__ = ['PseudoLabelSampler', 'RelabelSampler']
