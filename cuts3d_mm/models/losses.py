"""Losses and weights for uncertain pixels (Eq. 6), classes (CuVLER) and boxes (CutLER)."""

from __future__ import annotations

import torch
from mmdet.structures.bbox import bbox_overlaps
from torch import Tensor, nn
from torch.nn import functional

from cuts3d_mm.registry import MODELS


@MODELS.register_module()
class SCSoftTargetMaskLoss(nn.Module):
    """Spatial Confidence Soft Target Loss: cross entropy of a pixel times its weight (Eq. 6).

    The paper leaves the normalisation open; this is the mean over all pixels, as for a mask
    loss without confidence. With a weight of 1, or without weights, it equals
    `mmdet.CrossEntropyLoss(use_mask=True)` to the last bit.

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
            pred: (N, C, h, w) logits, N > 0.
            target: (N, h, w) in [0, 1].
            label: (N,) class whose logits count.
            weight: 1 - doubt, in [0, 1]; broadcasts to (N, h, w). None stands for 1 everywhere.

        Returns:
            (1,) float.
        """
        logits = pred[torch.arange(len(pred), device=pred.device), label]
        if weight is not None:
            weight = weight.expand_as(logits)
        loss = functional.binary_cross_entropy_with_logits(logits, target, weight=weight)
        return self.loss_weight * loss[None]


def soft_class_targets(labels: Tensor, scores: Tensor, num_classes: int) -> Tensor:
    """Soft targets of a classifier from the scores of uncertain labels (CuVLER).

    A foreground sample of score s has the target s in its class and 1 - s in the background.

    Args:
        labels: (N,) classes; `num_classes` means background.
        scores: (N,) in [0, 1]; not read for background.
        num_classes: number of classes without the background.

    Returns:
        (N, num_classes + 1) float, rows sum to 1.
    """
    foreground = torch.where(labels < num_classes, scores, 0)
    targets = scores.new_zeros(len(labels), num_classes + 1)
    targets[:, num_classes] = 1 - foreground
    classes = labels.clamp(max=num_classes - 1)[:, None]
    return targets.scatter_add(1, classes, foreground[:, None])


def drop_loss_weights(boxes: Tensor, label_boxes: Tensor, min_iou: float) -> Tensor:
    """Weigh predicted boxes by DropLoss (CutLER): 0 where no pseudo-label overlaps, else 1.

    A box far from every pseudo-label may well be an object that the labels miss, so it is
    neither rewarded nor punished.

    Args:
        boxes: (N, 4) predicted boxes, x1, y1, x2, y2 in pixels.
        label_boxes: (M, 4) boxes of the pseudo-labels of the same image.
        min_iou: largest IoU with the labels at which a box is dropped.

    Returns:
        (N,) float, 0 or 1.
    """
    if len(label_boxes) == 0:
        return boxes.new_zeros(len(boxes))
    return (bbox_overlaps(boxes, label_boxes).amax(dim=1) > min_iou).to(boxes.dtype)
