from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import reference
from drawn import GRID_HW, disc, iou, two_touching_discs

from cuts3d_mm.algorithm.depth import project_depth
from cuts3d_mm.algorithm.local_cut import CAPACITIES, build_cloud, cut_cloud
from cuts3d_mm.algorithm.params import LocalCutParams

RULES = ['step', 'affinity', 'margin', 'distance']


def step_world(gap, rng):
    """Two touching discs, `gap` apart in depth; the eigenvector is largest in the left one."""
    left, right = two_touching_discs()
    depth = np.where(left, 0.2, 0.2 + gap).astype(np.float32)
    depth += 0.002 * rng.standard_normal(GRID_HW).astype(np.float32)
    eigenvector = np.where(left, 1.0, 0.6).ravel() + 0.05 * rng.standard_normal(468)
    return (left | right).ravel(), project_depth(depth), eigenvector, left.ravel()


def _capacity(length, steps, tau, capacity, params):
    return CAPACITIES[capacity](length, steps, tau, params)


def cut(semantic, points, eigenvector, params):
    cloud = build_cloud(semantic, points, eigenvector, GRID_HW, params)
    return cut_cloud(cloud, params.tau_knn, GRID_HW, params)


@pytest.mark.parametrize('capacity', RULES)
@pytest.mark.parametrize('terminals', ['single', 'regional'])
def test_cut_separates_two_discs_at_different_depths(rng, capacity, terminals):
    semantic, points, eigenvector, left = step_world(0.4, rng)
    params = LocalCutParams(capacity=capacity, terminals=terminals)
    assert iou(cut(semantic, points, eigenvector, params), left) > 0.98


def test_regional_terminals_separate_discs_that_tau_alone_does_not(rng):
    semantic, points, eigenvector, left = step_world(0.06, rng)
    params = LocalCutParams(neighborhood='knn', capacity='affinity', terminals='single')
    single = cut(semantic, points, eigenvector, params)
    regional = cut(
        semantic,
        points,
        eigenvector,
        replace(params, terminals='regional', terminal_fraction=0.05),
    )
    assert iou(regional, left) > iou(single, left)


@pytest.mark.parametrize('capacity', RULES)
@pytest.mark.parametrize('terminals', ['single', 'regional'])
@pytest.mark.parametrize('neighborhood', ['grid', 'knn'])
@pytest.mark.parametrize('gap', [0.0, 0.07, 0.4])
def test_cut_equals_networkx(rng, capacity, terminals, neighborhood, gap):
    semantic, points, eigenvector, _ = step_world(gap, rng)
    params = LocalCutParams(
        neighborhood=neighborhood, capacity=capacity, terminals=terminals, num_neighbors=8
    )
    cloud = build_cloud(semantic, points, eigenvector, GRID_HW, params)
    rule = partial(_capacity, capacity=capacity, params=params)
    for tau in (0.04, 0.08, 0.115):
        exact = reference.local_cut(cloud, tau, GRID_HW, rule)
        assert (cut_cloud(cloud, tau, GRID_HW, params) == exact).all()


@pytest.mark.parametrize('outside', ['drop', 'far'])
def test_cut_stays_inside_the_semantic_mask(rng, outside):
    semantic, points, eigenvector, _ = step_world(0.4, rng)
    found = cut(semantic, points, eigenvector, LocalCutParams(outside=outside))
    assert found.any() and not (found & ~semantic).any()


def test_cut_is_one_component_with_the_strongest_patch(rng):
    semantic = (disc((5, 5), 3) | disc((13, 20), 3)).ravel()
    eigenvector = np.where(disc((13, 20), 3), 2.0, 1.0).ravel()
    points = project_depth(np.zeros(GRID_HW, np.float32))
    found = cut(semantic, points, eigenvector, LocalCutParams())
    assert not (found & disc((5, 5), 3).ravel()).any()
    assert found[np.argmax(np.where(semantic, eigenvector, 0))]


@pytest.mark.parametrize('count', [1, 2, 5, 10])
def test_fewer_points_than_neighbors_still_give_an_instance(rng, count):
    semantic = np.zeros(468, bool)
    semantic[100 : 100 + count] = True
    points = project_depth(rng.uniform(0, 0.01, GRID_HW).astype(np.float32))
    found = cut(semantic, points, rng.uniform(1, 2, 468), LocalCutParams())
    assert 1 <= found.sum() <= count


def test_no_edge_below_tau_leaves_the_strongest_patch(rng):
    semantic, points, eigenvector, _ = step_world(0.4, rng)
    found = cut(semantic, points, eigenvector, LocalCutParams(tau_knn=1e-6))
    assert np.flatnonzero(found).tolist() == [int(np.argmax(np.where(semantic, eigenvector, 0)))]


def test_empty_semantic_mask_is_refused(rng):
    points = project_depth(np.zeros(GRID_HW, np.float32))
    with pytest.raises(ValueError, match='at least one patch'):
        build_cloud(np.zeros(468, bool), points, np.ones(468), GRID_HW, LocalCutParams())
