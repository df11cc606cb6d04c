from __future__ import annotations

import copy

import pytest
import torch
from mmdet.registry import MODELS
from tiny_detectors import batch_of, tiny_config


def detector(**roi_head):
    torch.manual_seed(0)
    model = tiny_config().model
    model.roi_head.update(roi_head)
    return MODELS.build(model)


def losses_of(model, rng, counts=(3, 2), **options):
    torch.manual_seed(1)
    inputs, samples = batch_of(counts, rng, **options)
    return model.loss(inputs, samples)


def test_three_box_losses_and_one_mask_loss(rng):
    losses = losses_of(detector().train(), rng)
    boxes = {name for name in losses if name.endswith('loss_cls')}
    assert boxes == {'s0.loss_cls', 's1.loss_cls', 's2.loss_cls'}
    assert [name for name in losses if 'mask' in name] == ['s0.loss_mask']
    assert all(torch.isfinite(torch.as_tensor(value)).all() for value in losses.values())


def test_later_stages_keep_every_box_of_the_first(rng):
    model, seen = detector().train(), []
    stock = model.roi_head._bbox_forward
    model.roi_head._bbox_forward = lambda stage, x, rois: (
        seen.append(rois.shape[0]),
        stock(stage, x, rois),
    )[1]
    losses_of(model, rng)
    added = 3 + 2  # label boxes, which the first stage has as samples
    assert seen[0] - added <= seen[1] <= seen[0] and seen[2] == seen[1]


def test_gradient_to_shared_features_is_divided_by_the_stages(rng):
    head = detector().train().roi_head
    features = [torch.randn(1, 64, 24 >> level, 32 >> level) for level in range(4)]
    rois = torch.tensor([[0, 5.0, 5, 60, 50], [0, 20, 10, 90, 80]])
    gradients = []
    for forward in (head._bbox_forward, super(type(head), head)._bbox_forward):
        leaves = [level.clone().requires_grad_() for level in features]
        out = forward(0, leaves, rois)
        (out['cls_score'].sum() + out['bbox_pred'].sum()).backward()
        gradients.append(leaves[0].grad)
    torch.testing.assert_close(gradients[0] * 3, gradients[1])


def test_mask_is_predicted_by_the_one_head_on_the_final_boxes(rng):
    model = detector().eval()
    inputs, samples = batch_of((2, 1), rng)
    with torch.no_grad():
        results = model.predict(inputs, copy.deepcopy(samples), rescale=False)
        features = model.extract_feat(inputs)
        found = results[0].pred_instances
        rois = torch.cat([torch.zeros(len(found), 1), found.bboxes], dim=1)
        logits = model.roi_head._mask_forward(0, features, rois)['mask_preds']
    assert found.masks.shape == (len(found), 96, 128)
    assert len(model.roi_head.mask_head) == 1 and logits.shape == (len(found), 1, 28, 28)


def test_image_without_labels_trains(rng):
    losses = losses_of(detector().train(), rng, counts=(0, 0))
    sum(value.sum() for name, value in losses.items() if 'loss' in name and torch.is_tensor(value))


def test_several_mask_heads_are_refused_with_the_remedy():
    with pytest.raises(ValueError, match="type='CascadeRoIHead'"):
        detector(mask_head=[tiny_config().model.roi_head.mask_head] * 3)
