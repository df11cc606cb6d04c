"""A mask head whose loss weighs each pixel by its confidence."""

from __future__ import annotations

from typing import Any

import torch
from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from torch import Tensor
from torch.nn.modules.utils import _pair

from cuts3d_mm.algorithm.confidence import require_confidence_source
from cuts3d_mm.registry import MODELS
from cuts3d_mm.structures.confidence_masks import ConfidenceBitmapMasks


@MODELS.register_module()
class SCMaskHead(FCNMaskHead):
    """`mmdet.FCNMaskHead` that gives its loss the confidence of the labels.

    Args:
        confidence_source (str): `map`: the confidence of each pixel (Eq. 6); `score`: the score
            of the instance in all of its pixels (CuVLER); `none`: the stock loss. Defaults to
            `map`.
        loss_mask (dict): A mask loss that takes a weight per pixel.

    All other arguments are those of `mmdet.FCNMaskHead`.
    """

    def __init__(
        self, *args: Any, confidence_source: str = 'map', loss_mask: Any = None, **kwargs: Any
    ) -> None:
        require_confidence_source(confidence_source)
        loss_mask = loss_mask or {'type': 'cuts3d_mm.SCSoftTargetMaskLoss'}
        super().__init__(*args, loss_mask=loss_mask, **kwargs)
        self.confidence_source = confidence_source

    def loss_and_target(
        self,
        mask_preds: Tensor,
        sampling_results: list[Any],
        batch_gt_instances: list[Any],
        rcnn_train_cfg: Any,
    ) -> dict[str, Any]:
        """Compute the mask loss of the positive samples.

        Raises:
            TypeError: the masks of the labels carry no confidence.
        """
        targets = self.get_targets(sampling_results, batch_gt_instances, rcnn_train_cfg)
        if len(mask_preds) == 0:
            return {'loss_mask': {'loss_mask': mask_preds.sum()}, 'mask_targets': targets}
        labels = torch.cat([result.pos_gt_labels for result in sampling_results])
        if self.class_agnostic:
            labels = torch.zeros_like(labels)
        weight = self._confidence_targets(sampling_results, batch_gt_instances, rcnn_train_cfg)
        loss = self.loss_mask(mask_preds, targets, labels, weight=weight)
        return {'loss_mask': {'loss_mask': loss}, 'mask_targets': targets}

    def _confidence_targets(
        self, sampling_results: list[Any], batch_gt_instances: list[Any], rcnn_train_cfg: Any
    ) -> Tensor | None:
        """Weight of each pixel of each positive sample, (N, h, w) or (N, 1, 1)."""
        if self.confidence_source == 'none':
            return None
        weights = []
        for result, instances in zip(sampling_results, batch_gt_instances, strict=True):
            masks = _require_confidence(instances.masks)
            indices = result.pos_assigned_gt_inds
            if self.confidence_source == 'score':
                scores = torch.from_numpy(masks.scores).to(indices.device)
                weights.append(scores[indices][:, None, None])
            else:
                boxes = _clip(result.pos_priors, masks.height, masks.width)
                size = _pair(rcnn_train_cfg.mask_size)
                weights.append(masks.crop_confidence(boxes, size, indices, boxes.device))
        return torch.cat(weights)


def _require_confidence(masks: Any) -> ConfidenceBitmapMasks:
    if isinstance(masks, ConfidenceBitmapMasks):
        return masks
    raise TypeError(
        f'SCMaskHead must get ConfidenceBitmapMasks, got {type(masks).__name__}; load annotations '
        "by dict(type='cuts3d_mm.LoadPseudoLabels'), or set confidence_source='none'"
    )


def _clip(boxes: Tensor, height: int, width: int) -> Tensor:
    limits = boxes.new_tensor([width, height, width, height])
    return boxes.detach().clamp(min=0).minimum(limits)
