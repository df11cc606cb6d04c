"""Samplers that give the box head what DropLoss and soft targets need."""

from __future__ import annotations

from typing import Any

import torch
from mmdet.models.task_modules.samplers import PseudoSampler, RandomSampler
from torch import Tensor

from cuts3d_mm.registry import TASK_UTILS
from cuts3d_mm.structures.confidence_masks import ConfidenceBitmapMasks


@TASK_UTILS.register_module()
class PseudoLabelSampler(RandomSampler):
    """`mmdet.RandomSampler` whose results also hold all label boxes and the positives' scores.

    Results have `label_boxes` (M, 4) and `pos_scores` (P,) in addition.
    """

    def sample(
        self, assign_result: Any, pred_instances: Any, gt_instances: Any, **kwargs: Any
    ) -> Any:
        """Sample; as in `mmdet.RandomSampler`."""
        result = super().sample(assign_result, pred_instances, gt_instances, **kwargs)
        return _with_labels(result, gt_instances)


@TASK_UTILS.register_module()
class RelabelSampler(PseudoSampler):
    """Keep every box, as detectron2's cascade does after its first stage.

    Results have what those of `PseudoLabelSampler` have in addition.
    """

    def sample(
        self, assign_result: Any, pred_instances: Any, gt_instances: Any, **kwargs: Any
    ) -> Any:
        """Sort boxes into positives and negatives; as in `mmdet.PseudoSampler`."""
        result = super().sample(assign_result, pred_instances, gt_instances, **kwargs)
        return _with_labels(result, gt_instances)


def _with_labels(result: Any, gt_instances: Any) -> Any:
    boxes = gt_instances.bboxes
    result.label_boxes = boxes if isinstance(boxes, Tensor) else boxes.tensor
    result.pos_scores = _scores_of(gt_instances, result.label_boxes)[result.pos_assigned_gt_inds]
    return result


def _scores_of(gt_instances: Any, boxes: Tensor) -> Tensor:
    masks = gt_instances.get('masks')
    if isinstance(masks, ConfidenceBitmapMasks):
        return torch.from_numpy(masks.scores).to(boxes)
    return boxes.new_ones(len(boxes))
