from __future__ import annotations

import torch
from mmdet.registry import MODELS


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
