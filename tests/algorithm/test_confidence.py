from __future__ import annotations

import numpy as np
import pytest
from helpers import oracles
from helpers.drawn import disc

from cuts3d_mm.algorithm.confidence import (
    blend,
    doubt_of_grid,
    may_be_pasted,
    paste_alpha,
    raised_score,
    steps_of,
)


def grid():
    confidence = np.zeros((5, 7), np.uint8)
    confidence[1:3, 2:4] = [[128, 255], [200, 150]]
    return confidence


def test_outside_the_map_all_is_certain():
    doubt = doubt_of_grid(grid())
    assert (doubt[1:3, 2:4] == [[127, 0], [55, 105]]).all()
    assert doubt.sum() == 127 + 55 + 105


def test_extended_each_patch_takes_the_nearest_confidence():
    doubt = doubt_of_grid(grid(), extend=True)
    assert doubt[0, 0] == 127 and doubt[4, 0] == 55 and doubt[4, 6] == 105 and doubt[0, 6] == 0


def test_a_map_without_confidence_is_certain_everywhere():
    assert not doubt_of_grid(np.zeros((4, 3), np.uint8), extend=True).any()


def test_lower_bound_raises_the_patches_of_the_map_only():
    doubt = doubt_of_grid(grid(), 180)
    assert (doubt[1:3, 2:4] == [[75, 0], [55, 75]]).all()
    assert doubt.sum() == 75 + 55 + 75
    assert doubt_of_grid(grid(), 180, extend=True)[0, 0] == 75


@pytest.mark.parametrize('lower_bound', [0.0, 0.25, 0.5, 0.75])
def test_score_that_is_the_mean_of_a_map_is_the_mean_of_the_raised_map(lower_bound, rng):
    agreement = np.where(rng.random((7, 4)) < 0.6, rng.integers(1, 7, (7, 4)) / 6, 0)
    score = agreement[agreement > 0].mean()
    found = raised_score(score, np.rint(agreement * 255).astype('u1'), steps_of(lower_bound))
    expected = np.maximum(agreement[agreement > 0], lower_bound).mean()
    assert found == pytest.approx(expected, abs=0.5 / 255)


def test_score_without_a_map_stays():
    assert raised_score(0.3, np.zeros((2, 3), np.uint8), 128) == 0.3


HW = (30, 42)


def images(rng):
    return rng.integers(0, 256, (2, *HW, 3), dtype=np.uint8)


def test_full_alpha_is_the_source_and_none_is_the_target(rng):
    source, target = images(rng)
    assert (blend(source, target, np.full(HW, 255, np.uint8)) == source).all()
    assert (blend(source, target, np.zeros(HW, np.uint8)) == target).all()


def test_blend_equals_the_equation(rng):
    source, target = images(rng)
    alpha = rng.integers(0, 256, HW, dtype=np.uint8)
    share = alpha[..., None] / 255
    expected = np.rint(share * source + (1 - share) * target)
    assert (blend(source, target, alpha) == expected).all()
    floats = blend(source.astype(np.float32), target.astype(np.float32), alpha)
    np.testing.assert_allclose(floats, share * source + (1 - share) * target, atol=1e-3)


def test_alpha_is_what_is_not_doubted_inside_the_masks():
    masks = np.stack([disc((10, 10), 6, HW), disc((10, 18), 6, HW)])
    doubt = np.stack([np.full(HW, 155, np.uint8), np.full(HW, 55, np.uint8)])
    alpha = paste_alpha(masks, doubt)
    assert (alpha[~masks.any(axis=0)] == 0).all()
    assert (alpha[masks[0] & ~masks[1]] == 100).all() and (alpha[masks[1]] == 200).all()


def test_instances_that_cover_too_much_are_left_out():
    existing = np.stack([disc((10, 10), 6, HW), disc((20, 30), 5, HW)])
    pasted = np.stack(
        [disc((10, 11), 5, HW), disc((10, 18), 6, HW), np.zeros(HW, bool), disc((22, 12), 4, HW)]
    )
    areas = existing.sum(axis=(1, 2))
    assert may_be_pasted(pasted, existing, areas, 0.5).tolist() == [False, True, False, True]


def test_without_existing_instances_all_visible_ones_may_be_pasted():
    pasted = np.stack([disc((10, 11), 5, HW), np.zeros(HW, bool)])
    nothing = np.zeros((0, *HW), bool)
    assert may_be_pasted(pasted, nothing, np.zeros(0), 0.5).tolist() == [True, False]


def test_pasting_equals_the_pixel_by_pixel_oracle(rng):
    source, target = images(rng)
    existing = np.stack([disc((10, 10), 6, HW), disc((20, 30), 5, HW)])
    pasted = np.stack([disc((10, 11), 5, HW), disc((12, 18), 6, HW), disc((22, 12), 4, HW)])
    doubt = rng.integers(0, 256, pasted.shape, dtype=np.uint8)
    image, _, kept = oracles.paste(target, source, existing, pasted, 255 - doubt, 0.5)
    found = may_be_pasted(pasted, existing, existing.sum(axis=(1, 2)), 0.5)
    assert np.flatnonzero(found).tolist() == kept
    assert (blend(source, target, paste_alpha(pasted[found], doubt[found])) == image).all()
