from __future__ import annotations

import numpy as np
import pytest

from cuts3d_mm.algorithm.depth import depth_from_disparity


def test_near_and_far_end_differ_by_eleven():
    depth = depth_from_disparity(np.array([[10.0, 5, 0]], np.float32))[0]
    assert depth == pytest.approx([1 / 1.1, 1 / 0.6, 10])


def test_scale_and_shift_do_not_matter(rng):
    disparity = rng.uniform(0, 1, (5, 9)).astype(np.float32)
    expected = depth_from_disparity(disparity)
    assert np.allclose(depth_from_disparity(3 * disparity - 7), expected, rtol=1e-4)


def test_constant_disparity_is_constant_depth():
    assert (depth_from_disparity(np.full((2, 3), 4, np.float32)) == 0).all()


def test_extreme_values_do_not_overflow():
    largest = np.finfo(np.float32).max
    depth = depth_from_disparity(np.array([[-largest, 0, largest]], np.float32))
    assert np.isfinite(depth).all() and (np.diff(depth) < 0).all()
