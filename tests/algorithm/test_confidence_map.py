from __future__ import annotations

import numpy as np
import pytest

from cuts3d_mm.algorithm.confidence import doubt_of_grid, raise_to, raised_score, steps_of


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
    raised = raise_to(grid(), 180)
    assert (raised[1:3, 2:4] == [[180, 255], [200, 180]]).all()
    assert ((raised > 0) == (grid() > 0)).all()


@pytest.mark.parametrize('lower_bound', [0.0, 0.25, 0.5, 0.75])
def test_score_that_is_the_mean_of_a_map_is_the_mean_of_the_raised_map(lower_bound, rng):
    agreement = np.where(rng.random((7, 4)) < 0.6, rng.integers(1, 7, (7, 4)) / 6, 0)
    score = agreement[agreement > 0].mean()
    found = raised_score(score, np.rint(agreement * 255).astype('u1'), steps_of(lower_bound))
    expected = np.maximum(agreement[agreement > 0], lower_bound).mean()
    assert found == pytest.approx(expected, abs=0.5 / 255)


def test_score_without_a_map_stays():
    assert raised_score(0.3, np.zeros((2, 3), np.uint8), 128) == 0.3
