from __future__ import annotations

import numpy as np
import pytest
from drawn import GRID_HW, two_touching_discs

from cuts3d_mm.algorithm.local_cut import is_supported
from cuts3d_mm.algorithm.params import EvidenceParams

LEFT, RIGHT = two_touching_discs()
BOTH = LEFT | RIGHT
PARAMS = EvidenceParams()


def step_of(height, relief=0.0):
    """Depth of a step between the discs, on a slope along the rows."""
    slope = relief * np.mgrid[: GRID_HW[0], : GRID_HW[1]][0]
    return (np.where(RIGHT, height, 0) + slope).astype(np.float32)


def test_a_cut_along_a_depth_step_is_supported():
    assert is_supported(LEFT, BOTH, step_of(0.3), PARAMS)


@pytest.mark.parametrize('height', [0.0, 0.04])
def test_a_cut_without_a_depth_step_is_not(height):
    assert not is_supported(LEFT, BOTH, step_of(height), PARAMS)


def test_a_step_within_the_relief_of_the_object_is_none():
    assert is_supported(LEFT, BOTH, step_of(0.1, relief=0.09), PARAMS)
    assert not is_supported(LEFT, BOTH, step_of(0.1, relief=0.11), PARAMS)


def test_a_step_that_ties_with_the_relief_does_not_depend_on_noise(rng):
    depth = step_of(0.125, relief=0.125)
    for _ in range(20):
        noise = rng.uniform(-1e-6, 1e-6, GRID_HW).astype(np.float32)
        assert not is_supported(LEFT, BOTH, depth + noise, PARAMS)


def test_a_crumb_of_the_component_is_not_supported():
    crumb = np.zeros(GRID_HW, bool)
    crumb[np.nonzero(LEFT)[0][:5], np.nonzero(LEFT)[1][:5]] = True
    assert not is_supported(crumb, BOTH, step_of(0.3), PARAMS)


def test_the_whole_component_needs_no_step():
    assert is_supported(BOTH, BOTH, step_of(0.0), PARAMS)
