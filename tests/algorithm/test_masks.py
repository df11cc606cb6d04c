from __future__ import annotations

import numpy as np
import pytest
from helpers.drawn import disc
from PIL import Image

from cuts3d_mm.algorithm import masks


def test_iou_of_shifted_rectangles():
    first, second = np.zeros((4, 9), bool), np.zeros((4, 9), bool)
    first[:, :6] = second[:, 3:] = True
    assert masks.mask_iou(first, second) == pytest.approx(3 / 9)


def test_iou_of_empty_masks_is_zero():
    assert masks.mask_iou(np.zeros((2, 3), bool), np.zeros((2, 3), bool)) == 0


def test_component_is_four_connected():
    mask = np.array([[1, 0, 0], [0, 1, 1]], bool)
    assert masks.component_of(mask, (1, 1)).tolist() == [[False] * 3, [False, True, True]]


def test_component_outside_the_mask_is_refused():
    with pytest.raises(ValueError, match='must lie inside the mask'):
        masks.component_of(np.zeros((2, 3), bool), (0, 0))


def test_holes_are_filled_and_bays_are_not():
    ring = disc((10, 15), 8, (20, 30)) & ~disc((10, 15), 4, (20, 30))
    assert (masks.fill_holes(ring) == disc((10, 15), 8, (20, 30))).all()


def test_box_of_a_rectangle():
    mask = np.zeros((10, 20), bool)
    mask[2:5, 7:15] = True
    assert masks.box_xywh(mask) == (7, 2, 8, 3)
    assert masks.box_xywh(np.zeros((3, 4), bool)) == (0, 0, 0, 0)


def test_patches_are_enlarged_to_any_size():
    grid = np.array([[True, False, True]])
    assert (
        masks.enlarge_patches(grid, (2, 6)).tolist()
        == [[True, True, False, False, True, True]] * 2
    )


def test_touched_patches_hold_every_pixel_of_the_mask(rng):
    mask = rng.uniform(size=(31, 47)) > 0.995
    touched = masks.patches_touched(mask, (5, 8))
    grown = touched[np.arange(31)[:, None] * 5 // 31, np.arange(47) * 8 // 47]
    assert (grown | ~mask).all()
    assert touched.sum() <= mask.sum()


@pytest.mark.parametrize('image_hw', [(1, 1), (1, 50), (37, 80), (600, 301)])
def test_linear_resize_of_a_full_mask_is_full(image_hw):
    assert masks.resize_linear(np.ones((48, 48), bool), image_hw).all()


def test_linear_resize_keeps_the_shape_of_a_disc():
    found = masks.resize_linear(disc((24, 24), 15, (48, 48)), (480, 960))
    assert found.mean() == pytest.approx(disc((24, 24), 15, (48, 48)).mean(), rel=0.02)


@pytest.mark.parametrize('image_hw', [(300, 451), (31, 17), (48, 48)])
def test_bicubic_resize_equals_pillow(image_hw):
    mask = disc((20, 28), 13, (48, 48))
    picture = Image.fromarray(mask.astype(np.uint8) * 255)
    pillow = np.asarray(picture.resize(image_hw[::-1], Image.Resampling.BICUBIC))
    found = masks.resize_bicubic(mask, image_hw)
    np.testing.assert_array_equal(found, pillow > pillow.max() / 2)
