from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import oracles
from mmdet.registry import MODELS
from torch.nn import functional

from cuts3d_mm.models.losses import drop_loss_weights, soft_class_targets


def drawn(rng):
    pred = torch.tensor(rng.normal(0, 2, (6, 3, 14, 14)), dtype=torch.float32)
    target = torch.tensor(rng.random((6, 14, 14)) > 0.5, dtype=torch.float32)
    return pred, target, torch.tensor([0, 2, 1, 1, 0, 2])


def test_without_confidence_the_loss_is_the_stock_one_to_the_last_bit(rng):
    stock = MODELS.build({'type': 'mmdet.CrossEntropyLoss', 'use_mask': True})
    ours = MODELS.build({'type': 'cuts3d_mm.SCSoftTargetMaskLoss'})
    pred, target, label = drawn(rng)
    for weight in (None, torch.ones(6, 14, 14)):
        losses, gradients = [], []
        for loss, extra in ((stock, {}), (ours, {'weight': weight})):
            leaf = pred.clone().requires_grad_()
            losses.append(loss(leaf, target, label, **extra))
            losses[-1].sum().backward()
            gradients.append(leaf.grad)
        assert torch.equal(*losses)
        assert torch.equal(*gradients)


def test_doubt_lowers_the_loss_in_proportion(rng):
    loss = MODELS.build({'type': 'cuts3d_mm.SCSoftTargetMaskLoss', 'loss_weight': 2.0})
    pred, target, label = drawn(rng)
    full, half = (loss(pred, target, label, torch.full((6, 1, 1), c)) for c in (1.0, 0.5))
    torch.testing.assert_close(half * 2, full)


def drawn_targets(rng, shape=(3, 5, 7)):
    logits = torch.tensor(rng.normal(0, 2, shape), dtype=torch.float32, requires_grad=True)
    targets = torch.tensor(rng.random(shape) > 0.5, dtype=torch.float32)
    confidence = torch.tensor(rng.random(shape), dtype=torch.float32)
    return logits, targets, confidence


def loss_of_one_class(logits, targets, weight):
    loss = MODELS.build({'type': 'cuts3d_mm.SCSoftTargetMaskLoss'})
    return loss(logits[:, None], targets, torch.zeros(len(logits), dtype=torch.long), weight)


def test_loss_equals_the_equation(rng):
    logits, targets, confidence = drawn_targets(rng)
    expected = oracles.soft_target_loss(
        logits.detach().numpy(), targets.numpy(), confidence.numpy()
    )
    loss = loss_of_one_class(logits, targets, confidence)
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_gradient_of_a_pixel_is_its_error_times_its_confidence(rng):
    logits, targets, confidence = drawn_targets(rng)
    loss_of_one_class(logits, targets, confidence).backward()
    expected = confidence * (logits.detach().sigmoid() - targets) / logits.numel()
    torch.testing.assert_close(logits.grad, expected, atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize('confidence', [None, torch.ones(3, 5, 7), torch.ones(3, 1, 1)])
def test_confidence_of_one_changes_no_bit(rng, confidence):
    logits, targets, _ = drawn_targets(rng)
    stock = functional.binary_cross_entropy_with_logits(logits, targets)
    assert loss_of_one_class(logits, targets, confidence).item() == stock.item()


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
