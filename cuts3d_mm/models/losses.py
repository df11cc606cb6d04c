"""Losses weighted by confidence (Eq. 6)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

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


def confidence_weighted_mask_loss(
    logits: Tensor, targets: Tensor, confidence: Tensor | None
) -> Tensor:
    """Spatial Confidence Soft Target Loss (Eq. 6): cross entropy of a pixel times its confidence.

    The paper leaves the normalisation open; this is the mean over all pixels, as for a mask
    loss without confidence, so that a confidence of 1 changes nothing.

    Args:
        logits: (N, h, w), N > 0.
        targets: (N, h, w) in [0, 1].
        confidence: broadcasts to (N, h, w), in [0, 1]; None means 1 everywhere.
    """
    if confidence is not None:
        confidence = confidence.expand_as(logits)
    return functional.binary_cross_entropy_with_logits(logits, targets, weight=confidence)


def soft_class_targets(labels: Tensor, scores: Tensor, num_classes: int) -> Tensor:
    """Soft targets of a classifier from the scores of uncertain labels (CuVLER).

    A foreground sample of score s has the target s in its class and 1 - s in the background.

    Args:
        labels: (N,) class, `num_classes` means background.
        scores: (N,) in [0, 1]; not read for background.

    Returns:
        (N, num_classes + 1) float, rows sum to 1.
    """
    is_foreground = labels < num_classes
    foreground = torch.where(is_foreground, scores, torch.zeros_like(scores))
    targets = scores.new_zeros(len(labels), num_classes + 1)
    targets[:, num_classes] = 1 - foreground
    classes = labels.clamp(max=num_classes - 1)[:, None]
    return targets.scatter_add(1, classes, foreground[:, None])


def drop_loss_weights(boxes: Tensor, label_boxes: Tensor, min_iou: float) -> Tensor:
    """DropLoss (CutLER): 0 for a predicted box that overlaps no pseudo-label, else 1.

    A box far from every pseudo-label may well be an object that the labels miss, so it is
    neither rewarded nor punished.

    Args:
        boxes: (N, 4) predicted boxes, x1, y1, x2, y2 in pixels.
        label_boxes: (M, 4) of the same image.
        min_iou: a largest IoU of at most this drops the box.

    Returns:
        (N,) float, 0 or 1.
    """
    if len(label_boxes) == 0:
        return boxes.new_zeros(len(boxes))
    return (_box_iou(boxes, label_boxes).amax(dim=1) > min_iou).to(boxes.dtype)


def _box_iou(first: Tensor, second: Tensor) -> Tensor:
    top_left = torch.maximum(first[:, None, :2], second[:, :2])
    bottom_right = torch.minimum(first[:, None, 2:], second[:, 2:])
    overlap = (bottom_right - top_left).clamp(min=0).prod(dim=-1)
    area = (first[:, 2:] - first[:, :2]).clamp(min=0).prod(dim=-1)
    other_area = (second[:, 2:] - second[:, :2]).clamp(min=0).prod(dim=-1)
    union = area[:, None] + other_area - overlap
    return torch.where(union > 0, overlap / union.clamp(min=1e-12), torch.zeros_like(overlap))
