from __future__ import annotations

import numpy as np

from cuts3d_mm.algorithm.depth import project_depth


def test_points_span_the_unit_cube_and_keep_patches_square(rng):
    depth = rng.uniform(0, 1, (7, 11)).astype(np.float32)
    points = project_depth(depth).reshape(7, 11, 3)
    assert np.allclose(points[0, :, 0], np.arange(11) / 10)
    assert np.allclose(points[:, 0, 1], np.arange(7) / 10)
    assert (points[..., 2] == depth).all()


def test_single_patch_has_one_point():
    assert project_depth(np.zeros((1, 1), np.float32)).tolist() == [[0, 0, 0]]
