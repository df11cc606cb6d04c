from __future__ import annotations

import numpy as np
import pytest
from drawn import disc, photo

from cuts3d_mm.algorithm.crf import refine_to_image
from cuts3d_mm.algorithm.params import RefineParams

GRID = disc((4, 4), 2.6, (9, 13))


def test_mask_that_refinement_throws_away_is_dropped(rng):
    speck = np.zeros((9, 13), bool)
    speck[2, 10] = True
    assert refine_to_image([speck], photo(rng), (45, 65), RefineParams()) == [None]


@pytest.mark.parametrize('method', ['permutohedral', 'none'])
def test_masks_keep_their_order(rng, method):
    masks = [GRID, disc((4, 8), 2.6, (9, 13))]
    first, second = refine_to_image(masks, photo(rng), (45, 65), RefineParams(method=method))
    columns = np.arange(65)
    assert (first.sum(axis=0) @ columns) / first.sum() < (
        second.sum(axis=0) @ columns
    ) / second.sum()


def test_holes_are_filled(rng):
    ring = GRID & ~disc((4, 4), 1, (9, 13))
    found = refine_to_image([ring], photo(rng), (90, 130), RefineParams(method='none', min_iou=0))
    assert found[0][45, 45]


def test_nothing_in_is_nothing_out(rng):
    assert refine_to_image([], photo(rng), (10, 20), RefineParams()) == []


def test_mask_that_vanishes_at_the_original_size_is_dropped(rng):
    small = np.zeros((9, 13), bool)
    small[4, 4] = True
    params = RefineParams(method='none')
    assert refine_to_image([small], photo(rng), (1, 1), params) == [None]
