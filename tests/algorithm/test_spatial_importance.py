from __future__ import annotations

import numpy as np
import pytest
import reference

from cuts3d_mm.algorithm.affinity import spatial_importance
from cuts3d_mm.algorithm.params import ImportanceParams


def test_importance_equals_the_equations(rng):
    depth = rng.uniform(0, 1, (13, 21)).astype(np.float32)
    found = spatial_importance(depth, ImportanceParams(beta=0.45, sigma_patches=1.5))
    assert np.allclose(found, reference.spatial_importance(depth, 1.5, 0.45), atol=1e-5)


def test_importance_peaks_at_a_depth_step():
    depth = np.zeros((10, 30), np.float32)
    depth[:, 15:] = 1
    importance = spatial_importance(depth, ImportanceParams())
    assert set(importance.argmax(axis=1)) <= {14, 15}
    assert importance.max() == pytest.approx(1)
    assert importance[:, 0].max() < 0.5


def test_constant_depth_has_least_importance_everywhere():
    importance = spatial_importance(np.full((5, 9), 0.3, np.float32), ImportanceParams(beta=0.2))
    assert (importance == np.float32(0.2)).all()


@pytest.mark.parametrize('beta', [-0.1, 1.0])
def test_beta_outside_range_is_refused(beta):
    with pytest.raises(ValueError, match='beta must lie in'):
        spatial_importance(np.zeros((3, 4), np.float32), ImportanceParams(beta=beta))
