"""Spatial Confidence Soft Target Loss as a loss of MMDetection."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cuts3d_mm.algorithm.soft_target import confidence_weighted_mask_loss
from cuts3d_mm.registry import MODELS


@MODELS.register_module()
class SCSoftTargetMaskLoss(nn.Module):
    """Cross entropy of each pixel times its confidence, mean over all pixels (Eq. 6).

    Without confidence it is `mmdet.CrossEntropyLoss(use_mask=True)` to the last bit.

    Args:
        loss_weight (float): Factor of the loss. Defaults to 1.0.
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(
        self, pred: Tensor, target: Tensor, label: Tensor, weight: Tensor | None = None
    ) -> Tensor:
        """Compute the loss.

        Args:
            pred: (N, C, h, w) logits.
            target: (N, h, w) in [0, 1].
            label: (N,) class whose logits count.
            weight: (N, h, w) confidence in [0, 1], or None for 1.

        Returns:
            (1,) float.
        """
        logits = pred[torch.arange(len(pred), device=pred.device), label]
        loss = confidence_weighted_mask_loss(logits, target, weight)
        return self.loss_weight * loss[None]
