"""RoI heads, and the assigner and samplers that know which labels are trained on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmdet.models.losses import accuracy
from mmdet.models.roi_heads import CascadeRoIHead
from mmdet.models.roi_heads.bbox_heads import Shared2FCBBoxHead
from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from mmdet.models.task_modules.assigners import MaxIoUAssigner
from mmdet.models.task_modules.samplers import PseudoSampler, RandomSampler
from mmdet.models.utils import empty_instances
from mmdet.structures.bbox import bbox2roi, bbox_overlaps, get_box_tensor
from mmengine.model import ModuleList
from torch import Tensor
from torch.nn import functional
from torch.nn.modules.utils import _pair

from cuts3d_mm.algorithm.confidence import require_confidence_source
from cuts3d_mm.registry import MODELS, TASK_UTILS
from cuts3d_mm.structures.confidence_masks import ConfidenceBitmapMasks

from .losses import drop_loss_weights, soft_class_targets


@MODELS.register_module()
class DropLossBBoxHead(Shared2FCBBoxHead):
    """`mmdet.Shared2FCBBoxHead` with DropLoss (CutLER) and soft targets (CuVLER).

    Works in `StandardRoIHead` and `CascadeRoIHead` with `PseudoLabelSampler` or
    `RelabelSampler`. The class loss is the mean over all samples, dropped ones included, and
    softmax cross entropy with the weight of `loss_cls`.

    Args:
        drop_iou (float, optional): A predicted box whose largest IoU with the pseudo-labels is
            at most this does not count in the class loss; None turns DropLoss off. Defaults to
            0.01.
        confidence_source (str): `score`: the score of a label is the class target and weighs
            the box loss (CuVLER); `none`: labels are certain. A box has no `map`. Defaults to
            `none`.

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
        class_targets = labels
        if self.confidence_source == 'score':
            parts = [  # negatives come behind the positives of an image
                functional.pad(result.pos_scores, (0, len(result.neg_priors)), value=1.0)
                for result in sampling_results
            ]
            scores = torch.cat(parts)
            bbox_weights = bbox_weights * scores[:, None]
            class_targets = soft_class_targets(labels, scores, self.num_classes).to(cls_score)
        # The stock method gives the box loss only; the class loss follows.
        losses = super().loss(
            None, bbox_pred, rois, labels, label_weights, bbox_targets, bbox_weights
        )
        if cls_score.numel() > 0:
            weights = self._drop_weights(bbox_pred, rois, sampling_results)
            class_losses = functional.cross_entropy(cls_score, class_targets, reduction='none')
            losses['loss_cls'] = self.loss_cls.loss_weight * (weights * class_losses).mean()
            losses['acc'] = accuracy(cls_score, labels)
        return {'loss_bbox': losses, 'bbox_targets': targets}

    @torch.no_grad()
    def _drop_weights(
        self, bbox_pred: Tensor, rois: Tensor, sampling_results: list[Any]
    ) -> Tensor:
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


@MODELS.register_module()
class SCMaskHead(FCNMaskHead):
    """`mmdet.FCNMaskHead` that turns the doubt of the labels into the weight of its loss.

    Args:
        confidence_source (str): `map`: a weight of 1 - doubt for each pixel (Eq. 6); `score`:
            the score of the instance for all of its pixels (CuVLER); `none`: the stock loss.
            Defaults to `map`.
        loss_mask (dict, optional): Mask loss that takes a weight per pixel. Defaults to
            `SCSoftTargetMaskLoss`.

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
            TypeError: the masks of the labels carry no doubt.
        """
        targets = self.get_targets(sampling_results, batch_gt_instances, rcnn_train_cfg)
        if len(mask_preds) == 0:
            return {'loss_mask': {'loss_mask': mask_preds.sum()}, 'mask_targets': targets}
        labels = torch.cat([result.pos_gt_labels for result in sampling_results])
        if self.class_agnostic:
            labels = torch.zeros_like(labels)
        weight = self._pixel_weights(sampling_results, batch_gt_instances, rcnn_train_cfg)
        loss = self.loss_mask(mask_preds, targets, labels, weight=weight)
        return {'loss_mask': {'loss_mask': loss}, 'mask_targets': targets}

    def _pixel_weights(
        self, sampling_results: list[Any], batch_gt_instances: list[Any], rcnn_train_cfg: Any
    ) -> Tensor | None:
        """Weight of each pixel of each positive sample, 1 - doubt: (N, h, w) or (N, 1, 1)."""
        if self.confidence_source == 'none':
            return None
        weights = []
        for result, instances in zip(sampling_results, batch_gt_instances, strict=True):
            masks, indices = instances.masks, result.pos_assigned_gt_inds
            if not isinstance(masks, ConfidenceBitmapMasks):
                raise TypeError(
                    f'SCMaskHead must get ConfidenceBitmapMasks, got {type(masks).__name__}; load '
                    "annotations by dict(type='cuts3d_mm.LoadPseudoLabels'), or set "
                    "confidence_source='none'"
                )
            if self.confidence_source == 'score':
                scores = torch.from_numpy(masks.scores).to(indices.device)
                weights.append(scores[indices][:, None, None])
            else:
                boxes = result.pos_priors.detach()
                limits = boxes.new_tensor([masks.width, masks.height] * 2)
                boxes = boxes.clamp(min=0).minimum(limits)  # as mask targets are cropped
                size = _pair(rcnn_train_cfg.mask_size)
                weights.append(1 - masks.crop_doubt(boxes, size, indices, boxes.device))
        return torch.cat(weights)


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
            ValueError: there are several heads, or there is no extractor for the mask head.
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
        shared = tuple(level.view_as(level) for level in x)
        for level in shared:
            if level.requires_grad:
                level.register_hook(lambda gradient: gradient * (1 / self.num_stages))
        results: dict[str, Any] = super()._bbox_forward(stage, shared, rois)
        return results


@TASK_UTILS.register_module()
class PseudoLabelAssigner(MaxIoUAssigner):
    """`mmdet.MaxIoUAssigner` for which a label that is not trained on is neither right nor wrong.

    A box is not a negative where its IoU with an ignored label, which `filter_cfg.select` of
    `PseudoLabelDataset` has left out, is 0.5 or more. The stock assigner can only ignore all that
    lies inside an ignored box, and with it the objects on a floor.

    Arguments are those of `mmdet.MaxIoUAssigner`, whose `ignore_iof_thr` stays -1.
    """

    def assign(
        self,
        pred_instances: Any,
        gt_instances: Any,
        gt_instances_ignore: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Assign; as in `mmdet.MaxIoUAssigner`."""
        result = super().assign(pred_instances, gt_instances, None, **kwargs)
        if gt_instances_ignore is not None and len(gt_instances_ignore):
            ignored = get_box_tensor(gt_instances_ignore.bboxes)
            overlap = bbox_overlaps(get_box_tensor(pred_instances.priors), ignored).amax(dim=1)
            result.gt_inds[(result.gt_inds == 0) & (overlap >= _SAME_IOU)] = -1
        return result


class _ComparedBoxes:
    """A sampler with the argument `compared`."""

    def __init__(self, *args: Any, compared: str = 'labels', **kwargs: Any) -> None:
        if compared not in ('labels', 'cutler'):
            raise ValueError(f"compared must be 'labels' or 'cutler', got {compared!r}")
        super().__init__(*args, **kwargs)
        self.compared = compared


@TASK_UTILS.register_module()
class PseudoLabelSampler(_ComparedBoxes, RandomSampler):
    """`mmdet.RandomSampler` that adds the boxes and scores of the labels to its results.

    Results also have `label_boxes` (M, 4), the boxes that DropLoss compares with, and `pos_scores`
    (P,), the score of the label that each positive sample is assigned to. Boxes of labels that
    are among the samples stay among the proposals of later stages, as in detectron2; MMDetection
    removes them.

    Args:
        compared (str): Boxes that DropLoss compares with: `labels`: all labels of the image;
            `cutler`: what CutLER's code compares with, see `RelabelSampler`. Defaults to
            `labels`.

    All other arguments are those of `mmdet.RandomSampler`.
    """

    def sample(
        self, assign_result: Any, pred_instances: Any, gt_instances: Any, **kwargs: Any
    ) -> Any:
        """Sample; as in `mmdet.RandomSampler`."""
        result = super().sample(assign_result, pred_instances, gt_instances, **kwargs)
        result.pos_is_gt = torch.zeros_like(result.pos_is_gt)  # by it, MMDetection removes them
        order = None
        if self.compared == 'cutler':  # detectron2 gives the positives in random order
            order = torch.randperm(len(result.pos_inds), device=result.pos_inds.device)
            for name in _OF_POSITIVES:
                setattr(result, name, getattr(result, name)[order])
            order = torch.arange(len(result.priors), device=order.device)
        return _with_labels(result, gt_instances, order)


@TASK_UTILS.register_module()
class RelabelSampler(_ComparedBoxes, PseudoSampler):
    """`mmdet.PseudoSampler`: keeps every box, as detectron2's cascade does after its first stage.

    Results also have the `label_boxes` and `pos_scores` of `PseudoLabelSampler`.

    Args:
        compared (str): Boxes that DropLoss compares with: `labels`: all labels of the image;
            `cutler`: as CutLER's code, the first K boxes of a list that holds, for each sample,
            the label that overlaps it most. K is the number of labels among the first 100, so a
            label can be missing from the K boxes while another is there twice, and more samples
            are dropped. Defaults to `labels`.
    """

    def sample(
        self, assign_result: Any, pred_instances: Any, gt_instances: Any, **kwargs: Any
    ) -> Any:
        """Sort boxes into positives and negatives; as in `mmdet.PseudoSampler`."""
        result = super().sample(assign_result, pred_instances, gt_instances, **kwargs)
        order = None
        if self.compared == 'cutler':  # detectron2 keeps the order of the first stage
            order = torch.cat([result.pos_inds, result.neg_inds]).argsort()
        return _with_labels(result, gt_instances, order)


_OF_POSITIVES = 'pos_inds pos_priors pos_assigned_gt_inds pos_gt_labels pos_gt_bboxes'.split()
_SAME_IOU = 0.5  # IoU with an ignored label from which on a box shows the same
_COUNTED_ROWS = 100  # samples among which CutLER counts the labels


def _with_labels(result: Any, gt_instances: Any, order: Tensor | None) -> Any:
    """Add `label_boxes` and `pos_scores`; with an order of the samples, CutLER's boxes."""
    boxes = get_box_tensor(gt_instances.bboxes)
    masks = gt_instances.get('masks')
    if isinstance(masks, ConfidenceBitmapMasks):
        scores = torch.from_numpy(masks.scores).to(boxes)
    else:
        scores = boxes.new_ones(len(boxes))
    result.label_boxes, result.pos_scores = boxes, scores[result.pos_assigned_gt_inds]
    if order is not None and len(boxes):
        nearest = bbox_overlaps(result.priors[order[:_COUNTED_ROWS]], boxes).argmax(dim=1)
        result.label_boxes = boxes[nearest[: len(nearest.unique())]]
    return result
