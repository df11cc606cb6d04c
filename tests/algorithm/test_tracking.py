from __future__ import annotations

import numpy as np
import pytest
from helpers.drawn import disc, iou

from cuts3d_mm.algorithm.tracking import (
    GRID_PX,
    MAX_HIDDEN_FRAMES,
    MaskTracker,
    pairwise_iou,
    shift_mask,
)

HW = (60, 140)
NOTHING = np.zeros((0, *HW), bool)


def masks_at(*centers_yx, radius=8):
    return np.array([disc(center, radius, HW) for center in centers_yx])


def test_objects_that_move_keep_their_numbers_whatever_their_order(rng):
    tracker = MaskTracker()
    for frame in range(12):
        masks = masks_at((20, 20 + 6 * frame), (45, 110 - 7 * frame), (30, 70))
        order = rng.permutation(3)
        numbers = tracker.update(masks[order])
        if not frame:
            first = numbers[np.argsort(order)]
        assert numbers[np.argsort(order)].tolist() == first.tolist()
    assert sorted(first) == [1, 2, 3]


def test_an_object_hidden_for_a_few_frames_comes_out_with_its_number():
    """It moves by more than its size meanwhile."""
    tracker = MaskTracker()
    wall = np.zeros(HW, bool)
    wall[:, 60:100] = True
    for frame in range(26):
        ball = disc((30, 10 + 5 * frame), 8, HW) & ~wall
        masks = [wall, *([ball] if ball.any() else [])]
        numbers = tracker.update(np.array(masks))
        assert numbers.tolist() == [1, 2][: len(masks)]
        assert len(masks) == 1 + (not 12 <= frame <= 16)


def test_objects_that_cross_keep_their_numbers():
    tracker = MaskTracker()
    for frame in range(24):
        near, far = disc((32, 15 + 4 * frame), 10, HW), disc((28, 110 - 4 * frame), 7, HW)
        far &= ~near
        numbers = tracker.update(np.array([near, far] if far.any() else [near]))
        assert numbers.tolist() == [1, 2][: len(numbers)]
    assert len(numbers) == 2


def test_a_detection_that_is_missing_for_some_frames_does_not_end_an_object():
    tracker = MaskTracker()
    for frame in range(30):
        is_missing = frame % 5 in (3, 4)
        numbers = tracker.update(NOTHING if is_missing else masks_at((30, 10 + 4 * frame)))
        assert numbers.tolist() == ([] if is_missing else [1])


@pytest.mark.parametrize(('num_hidden', 'number'), [(MAX_HIDDEN_FRAMES, 1), (26, 2)])
def test_an_object_is_forgotten_after_its_time(num_hidden, number):
    tracker = MaskTracker()
    tracker.update(masks_at((30, 40)))
    for _ in range(num_hidden):
        tracker.update(NOTHING)
    assert tracker.update(masks_at((30, 40))).tolist() == [number]


def test_numbers_go_on_in_the_next_video():
    tracker = MaskTracker()
    assert tracker.update(masks_at((30, 40), (30, 80))).tolist() == [1, 2]
    tracker.forget()
    assert tracker.update(masks_at((30, 40), (30, 80))).tolist() == [3, 4]


def test_an_object_that_leaves_the_image_does_not_stop_the_others():
    tracker = MaskTracker()
    for frame in range(12):
        masks = masks_at((30, 70), (20, 100 + 12 * frame))
        masks = masks[masks.any(axis=(1, 2))]
        assert tracker.update(masks)[0] == 1


def test_large_masks_are_compared_on_fewer_pixels():
    tracker = MaskTracker()
    assert GRID_PX < 6 * HW[1]
    for frame in range(4):
        small = masks_at((20, 20 + 6 * frame), (45, 110 - 7 * frame))
        assert tracker.update(np.kron(small, np.ones((1, 6, 6), bool))).tolist() == [1, 2]


def test_no_object_of_a_large_frame_is_no_number():
    assert MaskTracker().update(np.zeros((0, 1080, 1920), bool)).tolist() == []


def test_an_object_of_one_pixel_of_a_large_image_is_followed():
    tracker = MaskTracker()
    for frame in range(4):
        mask = np.zeros((1, 6 * GRID_PX, 4 * GRID_PX), bool)
        mask[0, 7, 12 + frame] = True
        assert tracker.update(mask).tolist() == [1]


def test_iou_of_pairs_equals_that_of_each_pair(rng):
    first, second = rng.random((3, 20, 31)) < 0.4, rng.random((4, 20, 31)) < 0.3
    second[3] = False
    expected = [[iou(a, b) for b in second] for a in first]
    np.testing.assert_allclose(pairwise_iou(first, second), expected)


@pytest.mark.parametrize('shift_yx', [(0, 0), (3, -5), (-4.4, 7.6), (20, 3), (-90, 4), (5, 400)])
def test_a_shifted_mask_is_the_mask_that_was_shifted_pixel_by_pixel(rng, shift_yx):
    mask = rng.random((20, 31)) < 0.4
    expected = np.zeros_like(mask)
    down, right = (round(value) for value in shift_yx)
    for row, column in np.argwhere(mask):
        if 0 <= row + down < 20 and 0 <= column + right < 31:
            expected[row + down, column + right] = True
    assert (shift_mask(mask, np.array(shift_yx)) == expected).all()
