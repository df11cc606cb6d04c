"""The cascade of detectron2 and CutLER: three box heads, one mask head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmdet.models.roi_heads import CascadeRoIHead
from mmdet.models.utils import empty_instances
from mmdet.structures.bbox import bbox2roi
from mmengine.model import ModuleList
from torch import Tensor

from cuts3d_mm.registry import MODELS


@MODELS.register_module()
class SingleMaskCascadeRoIHead(CascadeRoIHead):
    """`mmdet.CascadeRoIHead` with one mask head, trained on the samples of the first stage.

    The gradient that each box stage sends to the backbone is divided by the number of stages,
    as in detectron2, so that stages of weight 1 do not drown the other losses. A detection's
    score is the mean of the stages' probabilities, where MMDetection averages their logits.

    Arguments are those of `mmdet.CascadeRoIHead`; `mask_head` is a single dict.
    """

    def init_mask_head(self, mask_roi_extractor: Any, mask_head: Any) -> None:
        """Build the mask head.

        Raises:
            ValueError: several are given, or no extractor of its own.
        """
        if not isinstance(mask_head, dict) or not isinstance(mask_roi_extractor, dict):
            raise ValueError(
                'mask_head and mask_roi_extractor must be one dict each; for one mask head per '
                "stage use type='CascadeRoIHead'"
            )
        self.share_roi_extractor = False
        self.mask_roi_extractor = ModuleList([MODELS.build(mask_roi_extractor)])
        self.mask_head = ModuleList([MODELS.build(mask_head)])

    def mask_loss(
        self, stage: int, x: Any, sampling_results: list[Any], batch_gt_instances: list[Any]
    ) -> dict[str, Any]:
        """Compute the mask loss of the first stage; other stages have none."""
        if stage > 0:
            return {'loss_mask': {}}
        results: dict[str, Any] = super().mask_loss(0, x, sampling_results, batch_gt_instances)
        return results

    def predict_mask(
        self,
        x: Any,
        batch_img_metas: list[dict[str, Any]],
        results_list: list[Any],
        rescale: bool = False,
    ) -> list[Any]:
        """Predict the masks of the final boxes."""
        boxes = [result.bboxes for result in results_list]
        rois = bbox2roi(boxes)
        if len(rois) == 0:
            return empty_instances(
                batch_img_metas,
                rois.device,
                task_type='mask',
                instance_results=results_list,
                mask_thr_binary=self.test_cfg.mask_thr_binary,
            )
        logits = self._mask_forward(0, x, rois)['mask_preds']
        return self.mask_head[0].predict_by_feat(
            mask_preds=logits.split([len(part) for part in boxes]),
            results_list=results_list,
            batch_img_metas=batch_img_metas,
            rcnn_test_cfg=self.test_cfg,
            rescale=rescale,
        )

    def _refine_roi(
        self,
        x: Any,
        rois: Tensor,
        batch_img_metas: list[dict[str, Any]],
        num_proposals_per_img: Sequence[int],
        **kwargs: Any,
    ) -> tuple[Any, list[Tensor], Any]:
        """Refine boxes stage by stage; the scores are logits of the mean probability."""
        counts = list(num_proposals_per_img)
        probabilities = []
        for stage, head in enumerate(self.bbox_head):
            found = self._bbox_forward(stage, x, rois, **kwargs)
            probabilities.append(found['cls_score'].float().softmax(dim=1))
            deltas = found['bbox_pred'].split(counts)
            if stage == self.num_stages - 1:
                break
            labels = found['cls_score'][:, :-1].argmax(dim=1).split(counts)
            parts = zip(rois.split(counts), labels, deltas, batch_img_metas, strict=True)
            rois = bbox2roi([head.regress_by_class(roi[:, 1:], *rest) for roi, *rest in parts])
        mean = torch.stack(probabilities).mean(dim=0)
        scores = mean.clamp_min(torch.finfo(mean.dtype).tiny).log()
        return rois.split(counts), list(scores.split(counts)), deltas

    def _mask_forward(self, stage: int, x: Any, rois: Tensor) -> dict[str, Any]:
        results: dict[str, Any] = super()._mask_forward(0, x, rois)
        return results

    def _bbox_forward(self, stage: int, x: Any, rois: Tensor) -> dict[str, Any]:
        shared = tuple(_ScaledGradient.apply(level, 1 / self.num_stages) for level in x)
        results: dict[str, Any] = super()._bbox_forward(stage, shared, rois)
        return results


class _ScaledGradient(torch.autograd.Function):
    """The identity, whose gradient is multiplied by a factor."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * ctx.factor, None
