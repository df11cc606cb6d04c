from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mmcv.ops import roi_align
from mmdet.registry import TRANSFORMS
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from scipy.ndimage import binary_dilation

from cuts3d_mm.structures import ConfidenceBitmapMasks, confidence_masks

IMAGE_HW = (60, 92)
DOUBT = 120

GEOMETRY = [
    dict(type='Resize', scale=(140, 90), keep_ratio=True),
    dict(type='Resize', scale=(71, 113), keep_ratio=False),
    dict(type='RandomFlip', prob=1.0, direction='horizontal'),
    dict(type='RandomFlip', prob=1.0, direction='diagonal'),
    dict(type='RandomCrop', crop_size=(40, 50), allow_negative_crop=True, recompute_bbox=True),
    dict(type='Pad', size_divisor=32),
    dict(type='Expand', ratio_range=(1.2, 1.6), prob=1.0),
    dict(type='MinIoURandomCrop', min_ious=(0.3,), min_crop_size=0.5),
    dict(type='Rotate', prob=1.0, level=3),
    dict(type='TranslateX', prob=1.0, level=3),
    dict(type='ShearY', prob=1.0, level=3),
    dict(type='FilterAnnotations', min_gt_bbox_wh=(2, 2), keep_empty=True),
]


def drawn_masks(count, seed=0):
    """Ellipses; where a mask is, there is doubt."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: IMAGE_HW[0], : IMAGE_HW[1]]
    masks = np.zeros((count, *IMAGE_HW), np.uint8)
    for mask in masks:
        y, x = rng.uniform(15, 45), rng.uniform(15, 75)
        tall, wide = rng.uniform(8, 14, 2)
        mask[((rows - y) / tall) ** 2 + ((columns - x) / wide) ** 2 <= 1] = 1
    scores = np.linspace(0.1, 0.9, count, dtype=np.float32)
    return ConfidenceBitmapMasks(masks, *IMAGE_HW, masks * np.uint8(DOUBT), scores)


def drawn_results(count):
    masks = drawn_masks(count)
    return dict(
        img=np.full((*IMAGE_HW, 3), 90, np.uint8),
        img_shape=IMAGE_HW,
        gt_masks=masks,
        gt_bboxes=masks.get_bboxes(HorizontalBoxes),
        gt_bboxes_labels=np.zeros(count, np.int64),
        gt_ignore_flags=np.zeros(count, bool),
    )


SMALLEST_BORDER_PX = 3


def grown(mask, border_px=SMALLEST_BORDER_PX):
    """A mask and its surroundings: resizing moves nearest and linear samples apart a little."""
    return binary_dilation(mask, np.ones((3, 3)), border_px)


def shift_after(shift_px, step, old_hw, new_hw):
    """How far nearest and linear samples may lie apart after a step, in pixels of its result.

    A resize magnifies what was there and adds a pixel of the coarser grid: OpenCV aligns nearest
    samples at corners and linear ones at centres. An interpolated warp adds one as well.
    """
    if step['type'] == 'Resize':
        factor = max(new / old for new, old in zip(new_hw, old_hw, strict=True))
        return shift_px * factor + max(factor, 1)
    return shift_px + (step['type'] in ('Rotate', 'TranslateX', 'ShearY'))


@settings(max_examples=40, deadline=None)
@example(steps=[GEOMETRY[10], GEOMETRY[0], GEOMETRY[7], GEOMETRY[1]], count=100, seed=0)
@given(
    steps=st.lists(st.sampled_from(GEOMETRY), min_size=1, max_size=4),
    count=st.sampled_from([0, 1, 5, 100]),
    seed=st.integers(0, 999),
)
def test_masks_and_confidence_stay_aligned_through_any_pipeline(steps, count, seed):
    np.random.seed(seed)
    results, shift_px = drawn_results(count), 0.0
    for step in steps:
        old_hw = results['img_shape'][:2]
        results = TRANSFORMS.build(step)(results)
        if results is None:  # a crop without a box
            return
        shift_px = shift_after(shift_px, step, old_hw, results['img_shape'][:2])
    border_px = max(SMALLEST_BORDER_PX, math.ceil(shift_px))
    masks = results['gt_masks']
    assert isinstance(masks, ConfidenceBitmapMasks)
    assert masks.doubt.shape == masks.masks.shape == (len(masks.scores), masks.height, masks.width)
    if count:  # MinIoURandomCrop leaves the masks of an image without boxes as they are
        assert (masks.height, masks.width) == tuple(results['img_shape'][:2])
    for mask, doubt in zip(masks.masks, masks.doubt, strict=True):
        doubted = doubt > DOUBT // 2
        if mask.sum() < 150:  # little is left: its border is most of it
            continue
        assert not (doubted & ~grown(mask > 0, border_px)).any()
        assert not ((mask > 0) & ~grown(doubted, border_px)).any()
        assert doubt[mask > 0].max() >= DOUBT - 1


def test_scores_follow_their_instances():
    masks = drawn_masks(5)
    chosen = masks[np.array([3, 1])]
    assert list(chosen.scores) == list(masks.scores[[3, 1]])
    assert list(masks[np.array([True, False, False, False, True])].scores) == list(
        masks.scores[[0, 4]]
    )
    assert len(masks[2]) == 1


def test_what_a_transform_adds_is_certain():
    padded = drawn_masks(2).pad((80, 110))
    assert not padded.doubt[:, 60:].any() and not padded.doubt[:, :, 92:].any()


def test_cat_takes_plain_masks_as_certain():
    plain = BitmapMasks(np.ones((1, *IMAGE_HW), np.uint8), *IMAGE_HW)
    joined = ConfidenceBitmapMasks.cat([drawn_masks(2), plain])
    assert len(joined) == 3
    assert not joined.doubt[2].any() and joined.scores[2] == 1


def test_masks_rebuilt_without_confidence_are_an_error_that_names_the_remedy():
    masks = drawn_masks(2)
    with pytest.raises(ValueError, match='Albu does it.*MMDetection'):
        masks.__class__(list(masks.masks), *IMAGE_HW)


def random_boxes(rng, count):
    corners = rng.uniform(0, [60, 35], (count, 2))
    return np.concatenate([corners, corners + rng.uniform(2, 25, (count, 2))], 1).astype('f4')


@pytest.mark.parametrize('binarize', [True, False])
def test_cropped_masks_equal_stock_bitmap_masks(rng, binarize):
    masks, boxes, inds = drawn_masks(4), random_boxes(rng, 30), rng.integers(0, 4, 30)
    stock = BitmapMasks(masks.masks, *IMAGE_HW)
    expected = stock.crop_and_resize(boxes, (28, 28), inds, binarize=binarize)
    found = masks.crop_and_resize(boxes, (28, 28), inds, binarize=binarize)
    assert (found.masks == expected.masks).all()


def test_maps_without_doubt_are_not_copied_to_the_device(rng, monkeypatch):
    masks, boxes, inds = drawn_masks(4), random_boxes(rng, 40), rng.integers(0, 4, 40)
    masks.doubt[[0, 2]] = 0
    copied = []
    original = confidence_masks._crop_boxes
    monkeypatch.setattr(
        confidence_masks,
        '_crop_boxes',
        lambda values, *rest: copied.append(len(values)) or original(values, *rest),
    )
    found = masks.crop_doubt(boxes, (14, 14), inds)
    expected = original(masks.doubt, boxes, (14, 14), inds, 'cpu') / 255
    assert copied == [2] and found.any() and not found[(inds == 0) | (inds == 2)].any()
    torch.testing.assert_close(found, expected)
    masks.doubt[:] = 0
    assert not masks.crop_doubt(boxes, (14, 14), inds).any() and copied == [2]


def test_cropped_doubt_equals_cropping_each_map_alone(rng):
    masks, boxes, inds = drawn_masks(4), random_boxes(rng, 9), rng.integers(0, 4, 9)
    found = masks.crop_doubt(boxes, (14, 14), inds)
    for index, box in enumerate(boxes):
        doubt = torch.from_numpy(masks.doubt[inds[index]] / np.float32(255))[None, None]
        roi = torch.tensor([[0, *box]], dtype=torch.float32)
        expected = roi_align(doubt, roi, (14, 14), 1.0, 0, 'avg', True)[0, 0]
        torch.testing.assert_close(found[index], expected, atol=1e-5, rtol=0)
