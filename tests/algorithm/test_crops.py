from __future__ import annotations

import numpy as np
import pytest
from helpers.drawn import iou

import cuts3d_mm
from cuts3d_mm.algorithm.crops import Window, corner_windows

IMAGE_HW = (120, 200)


def test_four_windows_cover_the_image_and_overlap_in_its_middle():
    seen = np.zeros(IMAGE_HW, int)
    for window in corner_windows(IMAGE_HW):
        assert window.window_hw == (66, 110)
        part = window.of(seen)
        assert part.shape == (66, 110)
        part += 1
    assert seen.min() == 1 and seen[60, 100] == 4


def test_a_window_shows_the_same_part_of_a_coarser_array():
    rows, columns = np.mgrid[:12, :20]
    window = Window(60, 100, IMAGE_HW, (60, 100))
    assert (window.of(rows) == rows[6:, 10:]).all()
    assert (window.of(columns) == columns[6:, 10:]).all()


def test_values_of_a_window_land_on_the_place_that_it_shows():
    window = Window(60, 100, IMAGE_HW, (60, 100))
    values = np.zeros((12, 20), np.float32)
    values[0, 0], values[-1, -1], values[5, 3] = 0.2, 0.7, 0.4
    whole = window.placed(values, (12, 20))
    assert whole[6, 10] == np.float32(0.2) and whole[-1, -1] == np.float32(0.7)
    assert whole[8, 11] == np.float32(0.4)
    assert np.count_nonzero(whole) == 3 and not whole[:6].any()


def test_a_mask_of_a_window_has_no_holes_where_its_grid_is_finer_than_the_pixels():
    for image_hw in ((32, 32), (48, 64), (480, 640)):
        window = list(corner_windows(image_hw))[-1]
        whole = window.placed(np.ones((60, 60), bool), (60, 60))
        rows, columns = np.nonzero(whole)
        assert whole.sum() == (60 - rows.min()) * (60 - columns.min()) > 0.2 * whole.size


@pytest.fixture(scope='module')
def small_object():
    """A grey wall, near its right lower corner a small box that stands before it."""
    rng = np.random.default_rng(0)
    image = (120 + 6 * rng.standard_normal((360, 480, 3))).clip(0, 255).astype(np.uint8)
    box = np.zeros((360, 480), bool)
    box[262:300, 372:410] = True
    image[box] = (200, 40, 40)
    return image, np.where(box, 1.0, 3.0).astype(np.float32), box


def test_crops_find_an_object_below_the_smallest_area_of_the_whole_image(small_object):
    image, depth, box = small_object
    generator = cuts3d_mm.load_generator('cuts3d_color-texture_file-depth')
    whole = generator.predict(image, depth=depth)
    assert max((iou(one.mask, box) for one in whole), default=0) < 0.5
    generator.crops = True
    found = generator.predict(image, depth=depth)
    best = max(found, key=lambda one: iou(one.mask, box))
    assert iou(best.mask, box) > 0.8 and best.confidence.shape == (60, 60)
    rows, columns = np.nonzero(best.patches)
    assert (rows.min(), columns.min()) == pytest.approx((262 / 6, 372 / 8), abs=1.5)


def test_an_object_that_a_window_cuts_off_is_taken_from_the_whole_image(small_object):
    image, depth, _ = small_object
    image, depth = image.copy(), depth.copy()
    middle = np.zeros(image.shape[:2], bool)
    middle[100:280, 160:340] = True
    image[middle], depth[middle] = (40, 40, 200), 1.5
    generator = cuts3d_mm.load_generator('cuts3d_color-texture_file-depth')
    generator.crops = True
    found = generator.predict(image, depth=depth)
    on_it = [one for one in found if (one.mask & middle).sum() > 0.5 * one.mask.sum()]
    assert len(on_it) == 1 and iou(on_it[0].mask, middle) > 0.9
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
