"""A box head for labels that miss objects."""

from __future__ import annotations

from typing import Any

import torch
from mmdet.models.losses import accuracy
from mmdet.models.roi_heads.bbox_heads import Shared2FCBBoxHead
from torch import Tensor
from torch.nn import functional

from cuts3d_mm.algorithm.confidence import require_confidence_source
from cuts3d_mm.algorithm.soft_target import drop_loss_weights, soft_class_targets
from cuts3d_mm.registry import MODELS


@MODELS.register_module()
class DropLossBBoxHead(Shared2FCBBoxHead):
    """`mmdet.Shared2FCBBoxHead` with DropLoss (CutLER) and soft targets (CuVLER).

    Works in `StandardRoIHead` and `CascadeRoIHead` with `PseudoLabelSampler` or
    `RelabelSampler`. The class loss is the mean over all samples, dropped ones included, and
    softmax cross entropy with the weight of `loss_cls`.

    Args:
        drop_iou (float, optional): A predicted box whose largest IoU with the pseudo-labels is
            at most this does not count in the class loss. None: no DropLoss. Defaults to 0.01.
        confidence_source (str): `score`: the label's score is the class target and weighs the
            box loss (CuVLER); `none`: labels are certain. A box has no `map`. Defaults to `none`.

    All other arguments are those of `mmdet.Shared2FCBBoxHead`; boxes must be regressed
    class-agnostically, as deltas.
    """

    def __init__(
        self,
        *args: Any,
        drop_iou: float | None = 0.01,
        confidence_source: str = 'none',
        **kwargs: Any,
    ) -> None:
        require_confidence_source(confidence_source, ('score', 'none'))
        super().__init__(*args, **kwargs)
        if not self.reg_class_agnostic or self.reg_decoded_bbox:
            raise ValueError(
                'DropLossBBoxHead must have reg_class_agnostic=True and reg_decoded_bbox=False'
            )
        if drop_iou is not None and self.num_classes > 1:
            raise ValueError(
                'drop_iou must be None for labels of people, which miss no objects and have '
                f'several classes, got {drop_iou} with num_classes={self.num_classes}; '
                'DropLoss is for pseudo-labels, whose only class is object'
            )
        self.drop_iou = drop_iou
        self.confidence_source = confidence_source

    def loss_and_target(
        self,
        cls_score: Tensor,
        bbox_pred: Tensor,
        rois: Tensor,
        sampling_results: list[Any],
        rcnn_train_cfg: Any,
        concat: bool = True,
        reduction_override: str | None = None,
    ) -> dict[str, Any]:
        """Compute the class and box losses of the samples.

        Raises:
            TypeError: the sampler does not give the boxes and scores of the labels.
        """
        if not all(hasattr(result, 'label_boxes') for result in sampling_results):
            raise TypeError(
                'DropLossBBoxHead must get samples of cuts3d_mm.PseudoLabelSampler or '
                'cuts3d_mm.RelabelSampler; set train_cfg.rcnn[...].sampler.type to one of them'
            )
        targets = self.get_targets(sampling_results, rcnn_train_cfg, concat=True)
        labels, label_weights, bbox_targets, bbox_weights = targets
        if self.confidence_source == 'score':
            bbox_weights = bbox_weights * _spread_scores(sampling_results)[:, None]
        # The stock method gives the box loss; the class loss is its own below.
        losses = super().loss(
            None, bbox_pred, rois, labels, label_weights, bbox_targets, bbox_weights
        )
        if cls_score.numel() > 0:
            kept = self._kept(bbox_pred, rois, sampling_results)
            losses['loss_cls'] = self._class_loss(cls_score, labels, kept, sampling_results)
            losses['acc'] = accuracy(cls_score, labels)
        return {'loss_bbox': losses, 'bbox_targets': targets}

    def _class_loss(
        self, cls_score: Tensor, labels: Tensor, kept: Tensor, sampling_results: list[Any]
    ) -> Tensor:
        if self.confidence_source == 'score':
            scores = _spread_scores(sampling_results)
            soft = soft_class_targets(labels, scores, self.num_classes).to(cls_score)
            loss = functional.cross_entropy(cls_score, soft, reduction='none')
        else:
            loss = functional.cross_entropy(cls_score, labels, reduction='none')
        return self.loss_cls.loss_weight * (kept * loss).mean()

    @torch.no_grad()
    def _kept(self, bbox_pred: Tensor, rois: Tensor, sampling_results: list[Any]) -> Tensor:
        """Weight of each sample by DropLoss, (N,)."""
        if self.drop_iou is None:
            return rois.new_ones(len(rois))
        boxes = self.bbox_coder.decode(rois[:, 1:], bbox_pred.to(rois))
        sizes = [len(result.priors) for result in sampling_results]
        weights = [
            drop_loss_weights(part, result.label_boxes, self.drop_iou)
            for part, result in zip(boxes.split(sizes), sampling_results, strict=True)
        ]
        return torch.cat(weights)


def _spread_scores(sampling_results: list[Any]) -> Tensor:
    """Scores of all samples, (N,): positives come first in each image, negatives have 1."""
    parts = []
    for result in sampling_results:
        negatives = result.pos_scores.new_ones(len(result.neg_priors))
        parts.append(torch.cat([result.pos_scores, negatives]))
    scores: Tensor = torch.cat(parts)
    return scores
