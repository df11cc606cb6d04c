from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import reference
import torch
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from tiny_detectors import IMAGE_HW, instances_of
from torch.autograd import gradcheck

TRAIN_CFG = ConfigDict(mask_size=28)


def head(kind='cuts3d_mm.SCMaskHead', **options):
    torch.manual_seed(0)
    common = dict(num_convs=1, in_channels=8, conv_out_channels=8, num_classes=1)
    return MODELS.build({'type': kind, **common, **options})


def samples(rng, instances, count=9):
    """Boxes near the labels, as a sampler returns them."""
    index = torch.tensor(rng.integers(0, len(instances), count))
    noise = torch.tensor(rng.normal(0, 3, (count, 4)), dtype=torch.float32)
    boxes = instances.bboxes[index] + noise
    return SimpleNamespace(
        pos_priors=boxes, pos_assigned_gt_inds=index, pos_gt_labels=torch.zeros_like(index)
    )


def predictions(rng, count=9):
    return torch.tensor(rng.normal(size=(count, 1, 28, 28)), dtype=torch.float32)


def test_loss_equals_the_equation_on_cropped_targets(rng):
    instances = instances_of(3, rng)
    result, pred = samples(rng, instances), predictions(rng)
    found = head().loss_and_target(pred, [result], [instances], TRAIN_CFG)
    boxes = result.pos_priors.clamp(min=0).minimum(torch.tensor([128.0, 96, 128, 96]))
    confidence = instances.masks.crop_confidence(boxes, (28, 28), result.pos_assigned_gt_inds)
    expected = reference.soft_target_loss(
        pred[:, 0].numpy(), found['mask_targets'].numpy(), confidence.numpy()
    )
    assert found['loss_mask']['loss_mask'].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize('confidence_source', ['map', 'score', 'none'])
def test_numeric_gradient_of_the_loss_agrees(rng, monkeypatch, confidence_source):
    instances = instances_of(2, rng)
    result, small = samples(rng, instances, 2), ConfigDict(mask_size=7)
    one = head(confidence_source=confidence_source)
    targets = one.get_targets([result], [instances], small).double()
    monkeypatch.setattr(one, 'get_targets', lambda *_: targets)  # stock targets are float32

    def loss(pred):
        found = one.loss_and_target(pred, [result], [instances], small)
        return found['loss_mask']['loss_mask']

    pred = torch.tensor(rng.normal(size=(2, 1, 7, 7)), requires_grad=True)
    assert gradcheck(loss, pred)


def test_score_weighs_all_pixels_of_an_instance(rng):
    instances = instances_of(3, rng)
    result, pred = samples(rng, instances), predictions(rng)
    found = head(confidence_source='score').loss_and_target(pred, [result], [instances], TRAIN_CFG)
    weight = instances.masks.scores[result.pos_assigned_gt_inds.numpy()]
    expected = reference.soft_target_loss(
        pred[:, 0].numpy(),
        found['mask_targets'].numpy(),
        np.broadcast_to(weight[:, None, None], (9, 28, 28)),
    )
    assert found['loss_mask']['loss_mask'].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize('options', [{}, {'confidence_source': 'none'}])
def test_certain_labels_give_the_stock_loss_to_the_last_bit(rng, options):
    instances = instances_of(4, rng, certain=True)
    result, pred = samples(rng, instances), predictions(rng)
    losses = [
        one.loss_and_target(pred, [result], [instances], TRAIN_CFG)['loss_mask']['loss_mask']
        for one in (head(**options), head('mmdet.FCNMaskHead'))
    ]
    assert torch.equal(*losses)


def test_no_positive_sample_gives_a_loss_of_zero_with_a_gradient(rng):
    instances = instances_of(2, rng)
    empty = samples(rng, instances, count=0)
    pred = predictions(rng, count=0).requires_grad_()
    loss = head().loss_and_target(pred, [empty], [instances], TRAIN_CFG)['loss_mask']['loss_mask']
    assert loss.item() == 0 and loss.requires_grad


def test_masks_without_confidence_are_refused_with_the_remedy(rng):
    instances = instances_of(2, rng, plain=True)
    result = samples(rng, instances)
    with pytest.raises(TypeError, match='LoadPseudoLabels'):
        head().loss_and_target(predictions(rng), [result], [instances], TRAIN_CFG)
    assert instances.masks.height == IMAGE_HW[0]


def test_unknown_confidence_source_is_refused():
    with pytest.raises(ValueError, match="must be one of .'map', 'score', 'none'"):
        head(confidence_source='confidence')
    with pytest.raises(TypeError, match="unexpected keyword argument 'soft_target'"):
        head(soft_target='none')
