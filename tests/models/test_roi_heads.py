from __future__ import annotations

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import oracles
from helpers.tiny_detectors import IMAGE_HW, batch_of, instances_of, tiny_config
from mmdet.models.task_modules.assigners import MaxIoUAssigner
from mmdet.registry import MODELS, TASK_UTILS
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
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


def sampled(rng, count=3, sampler='cuts3d_mm.PseudoLabelSampler', **options):
    """One image: labels, sampled boxes near and far, and a head's outputs for them."""
    instances = instances_of(count, rng)
    corners = torch.tensor(rng.uniform(0, 80, (60, 2)), dtype=torch.float32)
    sides = torch.tensor(rng.uniform(5, 40, (60, 2)), dtype=torch.float32)
    priors = InstanceData(priors=torch.cat([corners, corners + sides], dim=1))
    assigned = MaxIoUAssigner(0.5, 0.5, 0.5, match_low_quality=False).assign(priors, instances)
    settings = dict(num=32, pos_fraction=0.25) if 'Pseudo' in sampler else {}
    built = TASK_UTILS.build({'type': sampler, **settings, **options})
    result = built.sample(assigned, priors, instances)
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
    assert found.item() == pytest.approx(oracles.box_head_loss(logits, *args), rel=1e-6)
    for row in (0, len(logits) - 1):
        nudged = logits.copy()
        nudged[row, 0] += 1e-6
        slope = (oracles.box_head_loss(nudged, *args) - found.item()) / 1e-6
        assert scores.grad[row, 0].item() == pytest.approx(slope, abs=1e-5)


@pytest.mark.parametrize('confidence_source', ['none', 'score'])
@pytest.mark.parametrize('drop_iou', [None, 0.01, 0.2])
def test_numeric_gradients_of_both_losses_agree(rng, confidence_source, drop_iou):
    _, _, (scores, deltas, *rest) = sampled(rng)
    one = head(drop_iou=drop_iou, confidence_source=confidence_source)

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


@pytest.mark.parametrize('sampler', ['cuts3d_mm.PseudoLabelSampler', 'cuts3d_mm.RelabelSampler'])
def test_droploss_compares_with_what_cutler_compares_with_on_request(rng, sampler):
    missed = 0
    for _ in range(20):
        instances, result, _ = sampled(rng, 4, sampler, compared='cutler')
        order = torch.arange(len(result.priors))
        if 'Relabel' in sampler:  # its boxes stay in the order in which they come
            order = torch.cat([result.pos_inds, result.neg_inds]).argsort()
        boxes = instances.bboxes.numpy()
        overlaps = [[oracles.box_iou(box, one) for one in boxes] for box in result.priors[order]]
        matched = boxes[np.argmax(overlaps, axis=1)]
        expected = oracles.cutler_compared_boxes(matched)
        assert [tuple(row) for row in result.label_boxes.numpy()] == expected
        missed += len(set(expected)) < 4
    assert missed  # a label is not compared with


def test_unknown_word_for_what_droploss_compares_with_is_refused(rng):
    with pytest.raises(ValueError, match="compared must be 'labels' or 'cutler', got 'first'"):
        sampled(rng, compared='first')


def test_a_box_on_an_ignored_label_is_no_negative_and_a_box_inside_it_is():
    assigner = TASK_UTILS.build(
        dict(
            type='cuts3d_mm.PseudoLabelAssigner',
            pos_iou_thr=0.5,
            neg_iou_thr=0.5,
            min_pos_iou=0.5,
            match_low_quality=False,
        )
    )
    labels = InstanceData(bboxes=torch.tensor([[20.0, 20, 40, 40]]), labels=torch.zeros(1).long())
    floor = InstanceData(bboxes=torch.tensor([[0.0, 0, 100, 60]]))
    priors = [[20, 20, 40, 41], [0, 0, 100, 55], [60, 20, 80, 40], [70, 50, 120, 90]]
    boxes = InstanceData(priors=torch.tensor(priors, dtype=torch.float32))
    assert assigner.assign(boxes, labels, floor).gt_inds.tolist() == [1, -1, 0, 0]
    assert assigner.assign(boxes, labels).gt_inds.tolist() == [1, 0, 0, 0]


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


MASK_TRAIN_CFG = ConfigDict(mask_size=28)


def mask_head(kind='cuts3d_mm.SCMaskHead', **options):
    torch.manual_seed(0)
    common = dict(num_convs=1, in_channels=8, conv_out_channels=8, num_classes=1)
    return MODELS.build({'type': kind, **common, **options})


def mask_loss(one, pred, result, instances):
    found = one.loss_and_target(pred, [result], [instances], MASK_TRAIN_CFG)
    return found['loss_mask']['loss_mask']


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


@pytest.mark.parametrize('confidence_source', ['map', 'score'])
def test_loss_equals_the_equation_on_cropped_targets(rng, confidence_source):
    instances = instances_of(3, rng)
    result, pred = samples(rng, instances), predictions(rng)
    one = mask_head(confidence_source=confidence_source)
    found = one.loss_and_target(pred, [result], [instances], MASK_TRAIN_CFG)
    index = result.pos_assigned_gt_inds
    weight = instances.masks.scores[index.numpy()][:, None, None]  # of all pixels of an instance
    if confidence_source == 'map':
        boxes = result.pos_priors.clamp(min=0).minimum(torch.tensor([128.0, 96, 128, 96]))
        weight = 1 - instances.masks.crop_doubt(boxes, (28, 28), index).numpy()
    targets = found['mask_targets'].numpy()
    weights = np.broadcast_to(weight, (9, 28, 28))
    expected = oracles.soft_target_loss(pred[:, 0].numpy(), targets, weights)
    assert found['loss_mask']['loss_mask'].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize('confidence_source', ['map', 'score', 'none'])
def test_numeric_gradient_from_features_to_the_loss_agrees(rng, monkeypatch, confidence_source):
    instances = instances_of(2, rng)
    result, small = samples(rng, instances, 2), ConfigDict(mask_size=6)
    one = mask_head(confidence_source=confidence_source, in_channels=2, conv_out_channels=3)
    one.double()
    targets = one.get_targets([result], [instances], small).double()
    monkeypatch.setattr(one, 'get_targets', lambda *_: targets)  # stock targets are float32

    def loss(features, kernel):
        weights = {'conv_logits.weight': kernel}
        predicted = torch.func.functional_call(one, weights, (features,))
        found = one.loss_and_target(predicted, [result], [instances], small)
        return found['loss_mask']['loss_mask']

    features = torch.tensor(rng.normal(size=(2, 2, 3, 3)), requires_grad=True)
    kernel = one.conv_logits.weight.detach().clone().requires_grad_()
    assert gradcheck(loss, (features, kernel))


@pytest.mark.parametrize('options', [{}, {'confidence_source': 'none'}])
def test_certain_labels_give_the_stock_loss_to_the_last_bit(rng, options):
    instances = instances_of(4, rng, certain=True)
    result, pred = samples(rng, instances), predictions(rng)
    heads = mask_head(**options), mask_head('mmdet.FCNMaskHead')
    assert torch.equal(*(mask_loss(one, pred, result, instances) for one in heads))


def test_no_positive_sample_gives_a_loss_of_zero_with_a_gradient(rng):
    instances = instances_of(2, rng)
    empty = samples(rng, instances, count=0)
    pred = predictions(rng, count=0).requires_grad_()
    loss = mask_loss(mask_head(), pred, empty, instances)
    assert loss.item() == 0 and loss.requires_grad


def test_masks_without_confidence_are_refused_with_the_remedy(rng):
    instances = instances_of(2, rng, plain=True)
    result = samples(rng, instances)
    with pytest.raises(TypeError, match='LoadPseudoLabels'):
        mask_loss(mask_head(), predictions(rng), result, instances)
    assert instances.masks.height == IMAGE_HW[0]


def test_unknown_confidence_source_is_refused():
    with pytest.raises(ValueError, match="must be one of .'map', 'score', 'none'"):
        mask_head(confidence_source='confidence')
    with pytest.raises(TypeError, match="unexpected keyword argument 'soft_target'"):
        mask_head(soft_target='none')


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


def test_later_stages_have_as_many_positives_as_in_detectron2(rng):
    model, seen = detector().train(), []
    roi_head, stock = model.roi_head, model.roi_head.bbox_loss

    def bbox_loss(stage, x, results):
        found = stock(stage, x, results)
        seen.append((results, found['bbox_pred'].detach()))
        return found

    roi_head.bbox_loss = bbox_loss
    losses_of(model, rng, (3, 2))
    for image in range(2):
        stages = [results[image] for results, _ in seen]
        deltas = []
        for results, found in seen:
            sizes = [len(one.priors) for one in results]
            deltas.append(found.split(sizes)[image].double().numpy())
        # Each stage sorts its samples again: positives first.
        order = [np.arange(len(deltas[0]))]
        for one in stages[1:]:
            order.append(torch.cat([one.pos_inds, one.neg_inds]).argsort().numpy())
        unsorted = [deltas[0], deltas[1][order[1]]]
        stds = [head.bbox_coder.stds for head in roi_head.bbox_head[:2]]
        expected = oracles.detectron2_positives(
            stages[0].priors.numpy(),
            lambda stage, boxes, values=unsorted: values[stage],
            stages[0].label_boxes.numpy(),
            IMAGE_HW,
            (0.6, 0.7),
            stds,
        )
        assert [len(one.pos_inds) for one in stages[1:]] == expected
        assert min(expected) >= len(stages[0].label_boxes)  # near labels stay after few steps


def test_gradient_to_shared_features_is_divided_by_the_stages(rng):
    head = detector().train().roi_head
    features = [torch.randn(1, 32, 24 >> level, 32 >> level) for level in range(4)]
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
