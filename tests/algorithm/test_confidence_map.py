from __future__ import annotations

import numpy as np

from cuts3d_mm.algorithm.confidence_map import doubt_of_grid


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
