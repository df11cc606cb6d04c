from __future__ import annotations

import pytest
import reference
import torch
from mmdet.models.task_modules.assigners import MaxIoUAssigner
from mmdet.registry import MODELS, TASK_UTILS
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from tiny_detectors import instances_of
from torch.autograd import gradcheck

TRAIN_CFG = ConfigDict(pos_weight=-1)
CODER = dict(type='DeltaXYWHBBoxCoder', target_means=[0.0] * 4, target_stds=[0.1, 0.1, 0.2, 0.2])


def head(kind='cuts3d_mm.DropLossBBoxHead', **options):
    torch.manual_seed(0)
    common = dict(
        in_channels=4,
        fc_out_channels=8,
        roi_feat_size=7,
        num_classes=1,
        bbox_coder=CODER,
        reg_class_agnostic=True,
        loss_cls=dict(type='CrossEntropyLoss', loss_weight=1.0),
        loss_bbox=dict(type='L1Loss', loss_weight=1.0),
    )
    return MODELS.build({'type': kind, **common, **options})


def sampled(rng, count=3, sampler='cuts3d_mm.PseudoLabelSampler'):
    """One image: labels, sampled boxes near and far, and a head's outputs for them."""
    instances = instances_of(count, rng)
    corners = torch.tensor(rng.uniform(0, 80, (60, 2)), dtype=torch.float32)
    sides = torch.tensor(rng.uniform(5, 40, (60, 2)), dtype=torch.float32)
    priors = InstanceData(priors=torch.cat([corners, corners + sides], dim=1))
    assigned = MaxIoUAssigner(0.5, 0.5, 0.5, match_low_quality=False).assign(priors, instances)
    settings = dict(num=32, pos_fraction=0.25) if 'Pseudo' in sampler else {}
    result = TASK_UTILS.build({'type': sampler, **settings}).sample(assigned, priors, instances)
    rois = torch.cat([torch.zeros(len(result.priors), 1), result.priors], dim=1)
    scores = torch.tensor(rng.normal(size=(len(rois), 2)), dtype=torch.float32)
    deltas = torch.tensor(rng.normal(0, 0.5, (len(rois), 4)), dtype=torch.float32)
    return instances, result, (scores, deltas, rois, [result], TRAIN_CFG)


@pytest.mark.parametrize('confidence_source', ['none', 'score'])
@pytest.mark.parametrize('drop_iou', [None, 0.01, 0.2])
@pytest.mark.parametrize('sampler', ['cuts3d_mm.PseudoLabelSampler', 'cuts3d_mm.RelabelSampler'])
def test_class_loss_and_gradient_equal_the_oracle(rng, confidence_source, drop_iou, sampler):
    instances, result, (scores, deltas, rois, *rest) = sampled(rng, sampler=sampler)
    one = head(drop_iou=drop_iou, confidence_source=confidence_source)
    scores = scores.double().requires_grad_()
    found = one.loss_and_target(scores, deltas, rois, *rest)['loss_bbox']['loss_cls']
    found.backward()
    boxes = one.bbox_coder.decode(rois[:, 1:], deltas).numpy()
    num_pos = len(result.pos_inds)
    labels = [0] * num_pos + [1] * len(result.neg_inds)
    label_scores = [1.0] * len(labels)
    if confidence_source == 'score':
        label_scores[:num_pos] = instances.masks.scores[
            result.pos_assigned_gt_inds.numpy()
        ].tolist()
    args = labels, label_scores, boxes, instances.bboxes.numpy(), drop_iou
    logits = scores.detach().numpy()
    assert found.item() == pytest.approx(reference.box_head_loss(logits, *args), rel=1e-6)
    for row in (0, len(logits) - 1):
        nudged = logits.copy()
        nudged[row, 0] += 1e-6
        slope = (reference.box_head_loss(nudged, *args) - found.item()) / 1e-6
        assert scores.grad[row, 0].item() == pytest.approx(slope, abs=1e-5)


@pytest.mark.parametrize('confidence_source', ['none', 'score'])
def test_numeric_gradients_of_both_losses_agree(rng, confidence_source):
    _, _, (scores, deltas, *rest) = sampled(rng)
    one = head(drop_iou=0.01, confidence_source=confidence_source)

    def losses(scores, deltas):
        found = one.loss_and_target(scores, deltas, *rest)['loss_bbox']
        return found['loss_cls'], found['loss_bbox']

    assert gradcheck(losses, [scores.double().requires_grad_(), deltas.double().requires_grad_()])


def test_without_drop_loss_all_losses_equal_the_stock_head(rng):
    _, _, arguments = sampled(rng)
    ours = head(drop_iou=None).loss_and_target(*arguments)['loss_bbox']
    stock = head('mmdet.Shared2FCBBoxHead').loss_and_target(*arguments)['loss_bbox']
    assert set(ours) == set(stock)
    for name, value in stock.items():
        torch.testing.assert_close(ours[name], value)


def test_score_weighs_the_box_loss_of_a_positive(rng):
    instances, result, arguments = sampled(rng)
    instances.masks.scores[:] = 0.25
    result.pos_scores[:] = 0.25
    full = head().loss_and_target(*arguments)['loss_bbox']['loss_bbox']
    weighed = head(confidence_source='score').loss_and_target(*arguments)['loss_bbox']['loss_bbox']
    torch.testing.assert_close(weighed, full * 0.25)


def test_image_without_labels_gives_no_class_loss(rng):
    _, result, arguments = sampled(rng, count=0)
    assert len(result.pos_inds) == 0
    losses = head().loss_and_target(*arguments)['loss_bbox']
    assert losses['loss_cls'].item() == 0 and losses['loss_bbox'].item() == 0


def test_stock_sampler_is_refused_with_the_remedy(rng):
    _, result, arguments = sampled(rng)
    del result.label_boxes
    with pytest.raises(TypeError, match='PseudoLabelSampler'):
        head().loss_and_target(*arguments)


def test_boxes_regressed_per_class_are_refused():
    with pytest.raises(ValueError, match='reg_class_agnostic=True'):
        head(reg_class_agnostic=False)


def test_a_box_takes_its_confidence_from_a_score_or_has_none():
    with pytest.raises(ValueError, match="confidence_source must be one of .'score', 'none'"):
        head(confidence_source='map')
    with pytest.raises(TypeError, match="unexpected keyword argument 'soft_target'"):
        head(soft_target='score')
