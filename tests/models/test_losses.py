from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import oracles
from mmdet.registry import MODELS
from torch.autograd import gradcheck

from cuts3d_mm.models.losses import drop_loss_weights, soft_class_targets

OURS = {'type': 'cuts3d_mm.SCSoftTargetMaskLoss'}


def drawn(rng):
    pred = torch.tensor(rng.normal(0, 2, (6, 3, 14, 12)), dtype=torch.float32)
    target = torch.tensor(rng.random((6, 14, 12)) > 0.5, dtype=torch.float32)
    confidence = torch.tensor(rng.random((6, 14, 12)), dtype=torch.float32)
    return pred.requires_grad_(), target, torch.tensor([0, 2, 1, 1, 0, 2]), confidence


@pytest.mark.parametrize('weight', [None, torch.ones(6, 14, 12), torch.ones(6, 1, 1)])
def test_a_confidence_of_one_gives_the_stock_loss_to_the_last_bit(rng, weight):
    stock = MODELS.build({'type': 'mmdet.CrossEntropyLoss', 'use_mask': True})
    pred, target, label, _ = drawn(rng)
    losses = stock(pred, target, label), MODELS.build(OURS)(pred, target, label, weight)
    assert torch.equal(*losses)
    assert torch.equal(*(torch.autograd.grad(loss.sum(), pred)[0] for loss in losses))


def test_doubt_lowers_the_loss_in_proportion(rng):
    loss = MODELS.build({**OURS, 'loss_weight': 2.0})
    pred, target, label, _ = drawn(rng)
    full, half = (loss(pred, target, label, torch.full((6, 1, 1), c)) for c in (1.0, 0.5))
    torch.testing.assert_close(half * 2, full)


def test_loss_and_gradient_equal_the_equation(rng):
    pred, target, label, confidence = drawn(rng)
    loss = MODELS.build(OURS)(pred, target, label, confidence)
    logits = pred.detach()[torch.arange(6), label]
    expected = oracles.soft_target_loss(logits.numpy(), target.numpy(), confidence.numpy())
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    loss.backward()
    error = confidence * (logits.sigmoid() - target) / logits.numel()
    gradient = torch.zeros_like(pred)
    gradient[torch.arange(6), label] = error
    torch.testing.assert_close(pred.grad, gradient, atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize('weight_shape', [None, (3, 4, 5), (3, 1, 1)])
def test_numeric_gradient_for_a_class_among_several_agrees(rng, weight_shape):
    loss = MODELS.build({**OURS, 'loss_weight': 1.7})
    targets = torch.tensor(rng.random((3, 4, 5)))
    weight = None if weight_shape is None else torch.tensor(rng.random(weight_shape))
    pred = torch.tensor(rng.normal(size=(3, 2, 4, 5)), requires_grad=True)
    assert gradcheck(lambda pred: loss(pred, targets, torch.tensor([1, 0, 1]), weight), pred)


def test_soft_targets_split_a_sample_between_class_and_background():
    targets = soft_class_targets(torch.tensor([0, 1, 2]), torch.tensor([0.7, 0.2, 0.9]), 2)
    expected = torch.tensor([[0.7, 0, 0.3], [0, 0.2, 0.8], [0, 0, 1]])
    torch.testing.assert_close(targets, expected)


def test_boxes_that_touch_no_label_are_dropped(rng):
    corners = rng.uniform(0, 50, (40, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(1, 20, (40, 2))], axis=1)
    weights = drop_loss_weights(torch.tensor(boxes[4:]), torch.tensor(boxes[:4]), 0.05)
    best = [max(oracles.box_iou(box, label) for label in boxes[:4]) for box in boxes[4:]]
    assert weights.tolist() == [float(iou > 0.05) for iou in best]
    assert 0 < weights.sum() < len(weights)


def test_all_boxes_are_dropped_where_there_are_no_labels():
    assert drop_loss_weights(torch.ones(3, 4), torch.empty(0, 4), 0.01).tolist() == [0, 0, 0]
