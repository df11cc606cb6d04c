"""The gradients of the losses and heads against finite differences, in double precision."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from helpers.tiny_detectors import instances_of
from mmdet.models.task_modules.assigners import MaxIoUAssigner
from mmdet.registry import MODELS, TASK_UTILS
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch.autograd import gradcheck

TRAIN_CFG = ConfigDict(mask_size=6, pos_weight=-1)


def normal(rng, *shape):
    return torch.tensor(rng.normal(size=shape)).requires_grad_()


@pytest.mark.parametrize('weight_shape', [None, (3, 4, 5), (3, 1, 1)])
def test_mask_loss_of_one_class_among_several(rng, weight_shape):
    loss = MODELS.build({'type': 'cuts3d_mm.SCSoftTargetMaskLoss', 'loss_weight': 1.7})
    targets = torch.tensor(rng.random((3, 4, 5)))
    weight = None if weight_shape is None else torch.tensor(rng.random(weight_shape))
    label = torch.tensor([1, 0, 1])
    assert gradcheck(lambda pred: loss(pred, targets, label, weight), normal(rng, 3, 2, 4, 5))


@pytest.mark.parametrize('confidence_source', ['map', 'score', 'none'])
def test_mask_head_from_features_to_loss(rng, confidence_source):
    head = MODELS.build(
        {
            'type': 'cuts3d_mm.SCMaskHead',
            'confidence_source': confidence_source,
            'num_convs': 1,
            'in_channels': 2,
            'conv_out_channels': 3,
            'num_classes': 1,
        }
    ).double()
    targets_of = head.get_targets  # float32, in which cross entropy would then be computed
    head.get_targets = lambda *arguments: targets_of(*arguments).double()
    instances = instances_of(3, rng)
    index = torch.tensor([2, 0, 1, 1])
    samples = SimpleNamespace(
        pos_priors=instances.bboxes[index],
        pos_assigned_gt_inds=index,
        pos_gt_labels=torch.zeros_like(index),
    )

    def loss_of(features, kernel):
        predictions = torch.func.functional_call(head, {'conv_logits.weight': kernel}, (features,))
        found = head.loss_and_target(predictions, [samples], [instances], TRAIN_CFG)
        return found['loss_mask']['loss_mask']

    kernel = head.conv_logits.weight.detach().clone().requires_grad_()
    assert gradcheck(loss_of, (normal(rng, 4, 2, 3, 3), kernel))


@pytest.mark.parametrize('confidence_source', ['none', 'score'])
@pytest.mark.parametrize('drop_iou', [None, 0.2])
def test_box_head_from_its_outputs_to_the_losses(rng, confidence_source, drop_iou):
    head = MODELS.build(
        {
            'type': 'cuts3d_mm.DropLossBBoxHead',
            'drop_iou': drop_iou,
            'confidence_source': confidence_source,
            'in_channels': 2,
            'fc_out_channels': 4,
            'num_classes': 1,
            'bbox_coder': {'type': 'DeltaXYWHBBoxCoder'},
            'reg_class_agnostic': True,
            'loss_cls': {'type': 'CrossEntropyLoss', 'loss_weight': 1.5},
            'loss_bbox': {'type': 'L1Loss', 'loss_weight': 1.0},
        }
    )
    instances = instances_of(3, rng)
    corners = torch.tensor(rng.uniform(0, 80, (30, 2)), dtype=torch.float32)
    sides = torch.tensor(rng.uniform(5, 40, (30, 2)), dtype=torch.float32)
    priors = InstanceData(priors=torch.cat([corners, corners + sides], dim=1))
    assigned = MaxIoUAssigner(0.5, 0.5, 0.5, match_low_quality=False).assign(priors, instances)
    sampler = TASK_UTILS.build(
        {'type': 'cuts3d_mm.PseudoLabelSampler', 'num': 12, 'pos_fraction': 0.25}
    )
    result = sampler.sample(assigned, priors, instances)
    rois = torch.cat([torch.zeros(len(result.priors), 1), result.priors], dim=1)

    def losses_of(scores, deltas):
        found = head.loss_and_target(scores, deltas, rois, [result], TRAIN_CFG)['loss_bbox']
        return found['loss_cls'], found['loss_bbox']

    assert gradcheck(losses_of, (normal(rng, len(rois), 2), normal(rng, len(rois), 4)))
