from __future__ import annotations

import numpy as np
import pytest

from cuts3d_mm.algorithm.depth import (
    depth_from_disparity,
    normalize_depth,
    project_depth,
    resize_depth,
)


def test_depth_is_scaled_to_its_own_range(rng):
    depth = rng.uniform(3, 80, (20, 31)).astype(np.float32)
    scaled = normalize_depth(depth)
    assert scaled.min() == 0 and scaled.max() == 1
    assert np.allclose(scaled, normalize_depth(depth * 7 + 2), atol=1e-6)


def test_constant_depth_becomes_zero():
    assert (normalize_depth(np.full((4, 6), 5, np.float32)) == 0).all()


def test_clipping_keeps_a_stray_pixel_from_flattening_the_rest(rng):
    depth = rng.uniform(1, 2, (40, 50)).astype(np.float32)
    depth[0, 0] = 1000
    assert normalize_depth(depth).std() < 0.03
    assert normalize_depth(depth, outlier_spans=0.5).std() > 0.1


def test_without_far_outliers_clipping_changes_nothing(rng):
    depth = rng.uniform(3, 80, (20, 31)).astype(np.float32)
    assert (normalize_depth(depth, 0.5) == normalize_depth(depth)).all()


def test_a_small_thing_before_one_wall_is_no_outlier():
    depth = np.full((40, 50), 9, np.float32)
    depth[4:6, 5:9] = 2
    assert (normalize_depth(depth, 0.5) == normalize_depth(depth)).all()


def test_depth_with_nan_is_refused():
    with pytest.raises(ValueError, match='depth must be finite'):
        normalize_depth(np.array([[1, np.nan]], np.float32))


def test_depth_with_channels_is_refused():
    with pytest.raises(ValueError, match=r'depth must have shape \(H, W\)'):
        normalize_depth(np.zeros((2, 3, 1), np.float32))


def test_nearest_keeps_only_depths_that_are_there():
    depth = np.zeros((40, 64), np.float32)
    depth[:, 33:] = 1
    assert set(np.unique(resize_depth(depth, (5, 8)))) == {0, 1}


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


def test_points_span_the_unit_cube_and_keep_patches_square(rng):
    depth = rng.uniform(0, 1, (7, 11)).astype(np.float32)
    points = project_depth(depth).reshape(7, 11, 3)
    assert np.allclose(points[0, :, 0], np.arange(11) / 10)
    assert np.allclose(points[:, 0, 1], np.arange(7) / 10)
    assert (points[..., 2] == depth).all()


def test_single_patch_has_one_point():
    assert project_depth(np.zeros((1, 1), np.float32)).tolist() == [[0, 0, 0]]


def test_small_depth_is_enlarged(rng):
    depth = rng.uniform(0, 1, (3, 5)).astype(np.float32)
    assert resize_depth(depth, (9, 20)).shape == (9, 20)
