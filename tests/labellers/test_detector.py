from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.drawn import disc
from helpers.tiny_detectors import tiny_config
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from cuts3d_mm.algorithm.masks import mask_iou
from cuts3d_mm.images.reading import NamedImage, resize_rgb
from cuts3d_mm.labellers.detector import (
    DetectorLabeller,
    DetectorOutput,
    MaskCrop,
    _crops,
    _mean_inside,
    read_detections,
)
from cuts3d_mm.testing import check_labeller
from cuts3d_mm.weights.checkpoints import digest_weights


@pytest.fixture(scope='module')
def parts():
    config = tiny_config()
    torch.manual_seed(0)
    detector = MODELS.build(config.model)
    return detector, config.test_dataloader.dataset.pipeline


def images(rng, count=2):
    shapes = [(70, 110, 3), (90, 60, 3)]
    return [
        NamedImage(str(n), rng.integers(0, 255, shapes[n % 2], np.uint8)) for n in range(count)
    ]


def labeller(parts, **options):
    return DetectorLabeller(parts[0], parts[1], **options)


@pytest.mark.parametrize('confidence_source', ['none', 'map', 'score'])
def test_it_is_a_labeller_and_its_scores_fall(parts, rng, confidence_source):
    batch = images(rng)
    check_labeller(labeller(parts, confidence_source=confidence_source), images=batch, exact=True)
    for found in labeller(parts).predict_batch(batch):
        scores = [one.score for one in found]
        assert scores and scores == sorted(scores, reverse=True)


@pytest.mark.parametrize('confidence_source', ['none', 'map'])
def test_what_leaves_the_device_are_the_used_parts_of_masks(parts, rng, confidence_source):
    found = labeller(parts, confidence_source=confidence_source).extract(images(rng, 1))[0]
    assert found.crops and found.image_hw == (70, 110)
    for crop in found.crops:
        assert crop.values.base is None  # a view would keep the whole mask
        assert not crop.values.size or (crop.values[0].any() and crop.values[:, -1].any())
    first, second = torch.zeros(2, 40, 60, dtype=torch.uint8)
    first[3:9, 50:] = 7
    crop, empty = _crops(torch.stack([first, second]))
    assert crop.top_left == (3, 50) and crop.values.shape == (6, 10) and (crop.values == 7).all()
    assert empty.values.size == 0


def test_detections_are_made_one_at_a_time():
    crop = MaskCrop(np.ones((5, 7), bool), (990, 1990))
    scores, boxes = np.full(100, 0.5), np.zeros((100, 4))
    found = DetectorOutput(
        (crop,) * 100, scores, boxes, np.zeros(100), (1000, 2000), (None,) * 100
    )
    tracemalloc.start()
    try:
        areas = [one.mask.sum() for one in read_detections(found, 'none')]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert areas == [35] * 100 and peak < 10 * 1000 * 2000


def test_best_instances_are_kept(parts, rng):
    batch = images(rng, 1)
    every = labeller(parts).predict_batch(batch)[0]
    few = labeller(parts, max_per_image=2).predict_batch(batch)[0]
    assert [one.score for one in few] == [one.score for one in every[:2]]
    threshold = every[1].score
    kept = labeller(parts, score_thr=threshold).predict_batch(batch)[0]
    assert all(one.score >= threshold for one in kept)


def test_confidence_is_that_of_the_detection_or_of_its_pixels(parts, rng):
    batch = images(rng, 1)
    assert labeller(parts).predict_batch(batch)[0][0].confidence is None
    score = labeller(parts, confidence_source='score').predict_batch(batch)[0][0]
    assert np.unique(score.confidence) == pytest.approx(score.score)
    before = parts[0].roi_head.test_cfg.mask_thr_binary
    probability = labeller(parts, confidence_source='map').predict_batch(batch)[0]
    assert parts[0].roi_head.test_cfg.mask_thr_binary == before
    inside = probability[0].confidence[probability[0].confidence > 0]
    assert probability[0].confidence.shape == (9, 14)  # 70 x 110 px in cells of 8
    assert inside.min() >= 0.49 and inside.max() <= 1


def test_mean_of_a_cell_counts_pixels_of_the_mask_only():
    probability = np.full((16, 8), 0.8, np.float32)
    is_inside = np.zeros((16, 8), bool)
    is_inside[:4] = True
    cells = _mean_inside(probability, is_inside, (2, 1))
    assert cells.ravel() == pytest.approx([0.8, 0])


def test_digest_names_the_weights_whatever_their_order(parts):
    state = parts[0].state_dict()
    again = dict(reversed(list(state.items())))
    assert digest_weights(state) == digest_weights(again)
    first = next(iter(state))
    assert digest_weights({**state, first: state[first] + 1}) != digest_weights(state)


def test_checkpoint_of_another_detector_is_refused(parts, tmp_path):
    torch.save({'a': torch.zeros(1)}, tmp_path / 'w.pth')
    with pytest.raises(ValueError, match='weights must fit the network; missing'):
        labeller(parts, checkpoint=str(tmp_path / 'w.pth'))
    torch.save(parts[0].state_dict(), tmp_path / 'right.pth')
    with pytest.raises(ValueError, match='it was replaced since'):
        labeller(parts, checkpoint=str(tmp_path / 'right.pth'), weights_sha256='0')


def test_unknown_confidence_is_refused(parts):
    with pytest.raises(ValueError, match='confidence_source must be one of'):
        labeller(parts, confidence_source='mask_probability')


def test_images_of_several_sizes_may_share_a_pass_through_the_network(parts, rng):
    arrays = [image.pixels for image in images(rng, 3)]
    found = labeller(parts).predict_batch(arrays, at_once=2)
    shapes = [[one.mask.shape for one in instances] for instances in found]
    assert all(shapes) and [one[0] for one in shapes] == [(70, 110), (90, 60), (70, 110)]
    with pytest.raises(ValueError, match='at_once must be at least 1, got 0'):
        labeller(parts).predict_batch(arrays, at_once=0)


BOXES = [[-3, 2.4, 7.6, 9], [50, 30, 90, 70], [-9, -9, -2, -1]]


class BoxDetector(torch.nn.Module):
    """Finds three boxes, one of them off the image."""

    def test_step(self, data):
        boxes = InstanceData(
            bboxes=torch.tensor(BOXES), scores=torch.tensor([0.4, 0.9, 0.5]),
            labels=torch.tensor([3, 0, 1]),
        )  # fmt: skip
        return [DetDataSample(pred_instances=boxes)]


def test_boxes_are_filled_where_that_is_asked_for_and_refused_as_labels(parts, rng):
    image = rng.integers(0, 255, (40, 60, 3), np.uint8)
    filled = labeller((BoxDetector(), parts[1]), fill_boxes=True).predict(image)
    assert [(one.label, round(one.score, 6)) for one in filled] == [(0, 0.9), (3, 0.4)]
    assert [int(one.mask.sum()) for one in filled] == [10 * 10, 8 * 7]
    assert filled[0].mask[30:, 50:].all() and filled[1].mask[2:9, :8].all()
    assert filled[1].box_xyxy == pytest.approx(BOXES[0])
    for options in ({}, {'fill_boxes': True, 'confidence_source': 'map'}):
        with pytest.raises(ValueError, match=r'must predict masks|needs a detector with a RoI'):
            labeller((BoxDetector(), parts[1]), **options).predict(image)


def test_refined_masks_follow_the_edges_of_the_image():
    hw, true, coarse = (90, 120), disc((45, 60), 25, (90, 120)), np.zeros((90, 120), bool)
    coarse[22:70, 38:84] = True  # a box over the disc
    image = np.where(true[..., None], np.uint8(220), np.uint8(30)) * np.ones(3, np.uint8)
    boxes = np.array([[38, 22, 84, 70]], np.float32)
    crop = MaskCrop(coarse[22:70, 38:84], (22, 38))
    plain = DetectorOutput((crop,), np.ones(1), boxes, np.zeros(1, int), hw, (None,))
    refined = replace(plain, pixels=resize_rgb(image, (480, 480)))
    quality = [
        mask_iou(next(read_detections(output, 'none')).mask, true) for output in (plain, refined)
    ]
    assert quality[0] < 0.9 < 0.97 < quality[1]
