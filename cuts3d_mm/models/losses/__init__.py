"""Confidence-weighted losses."""

from cuts3d_mm.models.losses.soft_target_mask_loss import SCSoftTargetMaskLoss

__all__ = ['SCSoftTargetMaskLoss']
