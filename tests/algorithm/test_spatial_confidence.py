from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import reference
from drawn import GRID_HW, two_touching_discs

from cuts3d_mm.algorithm.depth import project_depth
from cuts3d_mm.algorithm.local_cut import CAPACITIES, build_cloud, cut_cloud, spatial_confidence
from cuts3d_mm.algorithm.params import ConfidenceParams, LocalCutParams

LOCAL = LocalCutParams(neighborhood='knn', capacity='affinity')


def ramp_cloud(rng):
    """One disc flat, one falling away: the second is cut off at small thresholds."""
    left, right = two_touching_discs()
    columns = np.mgrid[: GRID_HW[0], : GRID_HW[1]][1]
    depth = np.where(columns > 13, (columns - 13) * 0.085, 0).astype(np.float32)
    eigenvector = np.where(left, 2.0, 1.0).ravel()
    return build_cloud((left | right).ravel(), project_depth(depth), eigenvector, GRID_HW, LOCAL)


def confidence_of(cloud, params):
    mask = cut_cloud(cloud, LOCAL.tau_knn, GRID_HW, LOCAL)
    return spatial_confidence(cloud, mask, GRID_HW, LOCAL, params), mask


def test_confidence_is_the_mean_of_the_cuts(rng):
    cloud = ramp_cloud(rng)
    found, mask = confidence_of(
        cloud,
        ConfidenceParams(num_cuts=6, tau_min_ratio=0.5, spacing='linear', terminal_fraction=None),
    )
    taus = np.linspace(LOCAL.tau_knn / 2, LOCAL.tau_knn, 6)
    affinity = partial(CAPACITIES['affinity'], params=LOCAL)
    cuts = [reference.local_cut(cloud, tau, GRID_HW, affinity) for tau in taus]
    assert np.allclose(found, np.where(mask, np.mean(cuts, axis=0), 0))


def test_confidence_says_what_the_cuts_say_inside_and_is_zero_outside(rng):
    found, mask = confidence_of(ramp_cloud(rng), ConfidenceParams(num_cuts=6))
    counts = found[mask] * 6
    assert counts == pytest.approx(np.rint(counts)) and 1 <= counts.min() < 3
    assert (found[~mask] == 0).all()


def test_confidence_is_one_where_all_cuts_agree():
    left, _ = two_touching_discs()
    flat = project_depth(np.zeros(GRID_HW, np.float32))
    params = LocalCutParams(terminals='regional')
    cloud = build_cloud(left.ravel(), flat, np.ones(468), GRID_HW, params)
    found, mask = confidence_of(cloud, ConfidenceParams(num_cuts=1))
    assert (found[mask] == 1).all()


def test_no_cut_is_refused(rng):
    with pytest.raises(ValueError, match='num_cuts must be at least 1'):
        confidence_of(ramp_cloud(rng), ConfidenceParams(num_cuts=0))
