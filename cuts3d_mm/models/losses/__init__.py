"""Losses that weigh what they are told by how far it can be trusted."""

from cuts3d_mm.models.losses.soft_target_mask_loss import SCSoftTargetMaskLoss

__all__ = ['SCSoftTargetMaskLoss']
