from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import combinations, product

import numpy as np
import pytest
from helpers import oracles
from helpers.drawn import GRID_HW, disc, iou, two_touching_discs

from cuts3d_mm.algorithm.local_cut import (
    LOCAL_CUTS,
    Edges,
    build_cloud,
    connect_neighbors,
    connect_patches,
    cut_cloud,
    cut_in_3d,
    find_rule,
    part_cores,
    source_side,
    spatial_confidence,
)
from cuts3d_mm.algorithm.params import ConfidenceParams, LocalCutParams

RULES = ['step', 'affinity', 'distance']


def step_world(gap, rng):
    """Two touching discs, `gap` apart in depth; the eigenvector is largest in the left one."""
    left, right = two_touching_discs()
    depth = np.where(left, 0.2, 0.2 + gap).astype(np.float32)
    depth += 0.002 * rng.standard_normal(GRID_HW).astype(np.float32)
    eigenvector = np.where(left, 1.0, 0.6).ravel() + 0.05 * rng.standard_normal(468)
    return (left | right).ravel(), depth, eigenvector, left.ravel()


def _capacity(length, steps, tau, capacity, params):
    return LOCAL_CUTS[capacity](length, steps, tau, params)


def cut(semantic, depth, eigenvector, params):
    return cut_cloud(build_cloud(semantic, eigenvector, depth, params), params.tau_knn, params)


def parted(mask, eigenvector, depth, params=LocalCutParams()):  # noqa: B008  frozen
    cloud, radius = build_cloud(mask, eigenvector, depth, params), params.evidence.core_radius
    return part_cores(mask, cloud, eigenvector, radius, params, ConfidenceParams())


@pytest.mark.parametrize('capacity', RULES)
@pytest.mark.parametrize('terminals', ['single', 'regional'])
def test_cut_separates_two_discs_at_different_depths(rng, capacity, terminals):
    semantic, depth, eigenvector, left = step_world(0.4, rng)
    params = LocalCutParams(capacity=capacity, terminals=terminals)
    assert iou(cut(semantic, depth, eigenvector, params), left) > 0.98


def test_regional_terminals_separate_discs_that_tau_alone_does_not(rng):
    semantic, depth, eigenvector, left = step_world(0.06, rng)
    params = LocalCutParams(neighborhood='knn', capacity='affinity', terminals='single')
    single = cut(semantic, depth, eigenvector, params)
    regional = cut(
        semantic,
        depth,
        eigenvector,
        replace(params, terminals='regional', terminal_fraction=0.05),
    )
    assert iou(regional, left) > iou(single, left)


@pytest.mark.parametrize('capacity', RULES)
@pytest.mark.parametrize('terminals', ['single', 'regional'])
@pytest.mark.parametrize('neighborhood', ['grid', 'knn'])
@pytest.mark.parametrize('gap', [0.0, 0.07, 0.4])
def test_cut_equals_networkx(rng, capacity, terminals, neighborhood, gap):
    semantic, depth, eigenvector, _ = step_world(gap, rng)
    params = LocalCutParams(
        neighborhood=neighborhood, capacity=capacity, terminals=terminals, num_neighbors=8
    )
    cloud = build_cloud(semantic, eigenvector, depth, params)
    rule = partial(_capacity, capacity=capacity, params=params)
    for tau in (0.04, 0.08, 0.115):
        exact = oracles.local_cut(cloud, tau, GRID_HW, rule)
        assert (cut_cloud(cloud, tau, params) == exact).all()


@pytest.mark.parametrize('outside', ['drop', 'far'])
def test_cut_stays_inside_the_semantic_mask(rng, outside):
    semantic, depth, eigenvector, _ = step_world(0.4, rng)
    found = cut(semantic, depth, eigenvector, LocalCutParams(outside=outside))
    assert found.any() and not (found & ~semantic).any()


def test_cut_is_one_component_with_the_strongest_patch(rng):
    semantic = (disc((5, 5), 3) | disc((13, 20), 3)).ravel()
    eigenvector = np.where(disc((13, 20), 3), 2.0, 1.0).ravel()
    found = cut(semantic, np.zeros(GRID_HW, np.float32), eigenvector, LocalCutParams())
    assert not (found & disc((5, 5), 3).ravel()).any()
    assert found[np.argmax(np.where(semantic, eigenvector, 0))]


@pytest.mark.parametrize('count', [1, 2, 5, 10])
def test_fewer_points_than_neighbors_still_give_an_instance(rng, count):
    semantic = np.zeros(468, bool)
    semantic[100 : 100 + count] = True
    depth = rng.uniform(0, 0.01, GRID_HW).astype(np.float32)
    found = cut(semantic, depth, rng.uniform(1, 2, 468), LocalCutParams())
    assert 1 <= found.sum() <= count


def test_no_edge_below_tau_leaves_the_strongest_patch(rng):
    semantic, depth, eigenvector, _ = step_world(0.4, rng)
    found = cut(semantic, depth, eigenvector, LocalCutParams(tau_knn=1e-6))
    assert np.flatnonzero(found).tolist() == [int(np.argmax(np.where(semantic, eigenvector, 0)))]


def test_empty_semantic_mask_is_refused():
    with pytest.raises(ValueError, match='at least one patch'):
        cut(np.zeros(468, bool), np.zeros(GRID_HW, 'f4'), np.ones(468), LocalCutParams())


@pytest.mark.parametrize('count', [2, 5, 11, 60])
@pytest.mark.parametrize('num_neighbors', [1, 4, 10])
def test_edges_equal_brute_force(rng, count, num_neighbors):
    points = rng.uniform(0, 1, (count, 3)).astype(np.float32)
    edges = connect_neighbors(points, num_neighbors)
    found = set(zip(edges.first.tolist(), edges.second.tolist(), strict=True))
    assert found == oracles.neighbor_pairs(points, num_neighbors)
    assert np.allclose(
        edges.length, np.linalg.norm(points[edges.first] - points[edges.second], axis=1)
    )


@pytest.mark.parametrize('count', [0, 1])
def test_too_few_points_have_no_edges(count):
    assert connect_neighbors(np.zeros((count, 3), np.float32), 3).first.size == 0


def test_equal_points_are_connected_without_loops():
    edges = connect_neighbors(np.zeros((6, 3), np.float32), 3)
    assert (edges.first < edges.second).all() and (edges.length == 0).all()


def test_edges_are_all_pairs_of_touching_patches(rng):
    patches = np.flatnonzero(disc((9, 8), 5) | disc((3, 20), 2))
    depth = rng.random(len(patches), dtype=np.float32)
    edges = connect_patches(patches, depth, GRID_HW)
    places = [divmod(int(patch), GRID_HW[1]) for patch in patches]
    exact = [
        (i, j)
        for i, j in combinations(range(len(patches)), 2)
        if max(abs(a - b) for a, b in zip(places[i], places[j], strict=True)) == 1
    ]
    assert list(zip(edges.first.tolist(), edges.second.tolist(), strict=True)) == exact
    assert np.allclose(edges.length, [abs(depth[i] - depth[j]) for i, j in exact])


def test_single_patch_has_no_edge():
    edges = connect_patches(np.array([7]), np.zeros(1, np.float32), GRID_HW)
    assert len(edges.first) == len(edges.second) == len(edges.length) == 0


def cut_value(side, edges, capacities):
    return capacities[side[edges.first] != side[edges.second]].sum()


def edges_of(pairs):
    first, second = np.array(pairs, int).reshape(-1, 2).T
    return Edges(first, second, np.ones(len(first)))


@pytest.mark.parametrize('seed', range(10))
def test_side_is_the_smallest_minimum_cut_of_all(seed):
    rng = np.random.default_rng(seed)
    edges = connect_neighbors(rng.uniform(0, 1, (8, 3)).astype(np.float32), 3)
    capacities = rng.integers(1, 4, len(edges.first)).astype(float)  # ties are common
    side = source_side(8, edges, capacities, np.array([0]), np.array([7]))
    all_sides = [np.array([True, *bits, False]) for bits in product([False, True], repeat=6)]
    least = min(cut_value(s, edges, capacities) for s in all_sides)
    assert cut_value(side, edges, capacities) == least
    smallest = [s for s in all_sides if cut_value(s, edges, capacities) == least]
    assert all((side <= s).all() for s in smallest)


@pytest.mark.parametrize('terminals', [1, 5])
def test_side_equals_networkx(rng, terminals):
    edges = connect_neighbors(rng.uniform(0, 1, (120, 3)).astype(np.float32), 6)
    capacities = np.exp(-edges.length)
    sources, sinks = np.arange(terminals), np.arange(119, 119 - terminals, -1)
    found = source_side(120, edges, capacities, sources, sinks)
    assert (found == oracles.source_side(120, edges, capacities, sources, sinks)).all()


def test_side_of_a_bridge_is_cut_at_the_bridge():
    edges = edges_of([(0, 1), (1, 2), (0, 2), (2, 3), (3, 4), (4, 5), (3, 5)])
    capacities = np.array([5.0, 5, 5, 1, 5, 5, 5])
    side = source_side(6, edges, capacities, np.array([0]), np.array([5]))
    assert side.tolist() == [True, True, True, False, False, False]


def test_without_sinks_all_that_is_reached_stays():
    side = source_side(4, edges_of([(0, 1), (2, 3)]), np.ones(2), np.array([0]), np.array([], int))
    assert side.tolist() == [True, True, False, False]


def test_without_edges_only_the_source_stays():
    side = source_side(3, edges_of([]), np.empty(0), np.array([1]), np.array([2]))
    assert side.tolist() == [False, True, False]


def test_large_graph_does_not_overflow(rng):
    edges = connect_neighbors(rng.uniform(0, 1, (3000, 3)).astype(np.float32), 10)
    capacities = np.full(len(edges.first), 1e6)
    side = source_side(3000, edges, capacities, np.arange(600), np.arange(2400, 3000))
    assert side[:600].all() and not side[2400:].any()


def test_shared_terminal_is_refused():
    with pytest.raises(ValueError, match='must not share a node'):
        source_side(2, edges_of([(0, 1)]), np.ones(1), np.array([0]), np.array([0]))


@pytest.mark.parametrize('capacities', [-np.ones(1), np.full(1, np.nan), np.ones(2)])
def test_capacities_that_no_cut_can_add_up_are_refused(capacities):
    with pytest.raises(ValueError, match='must not be negative'):
        source_side(2, edges_of([(0, 1)]), capacities, np.array([0]), np.array([1]))


@pytest.mark.parametrize('name', ['x', 'nowhere.rule', 'numpy.no_such_rule'])
def test_a_rule_that_is_not_there_is_named_with_the_remedy(name):
    with pytest.raises(ValueError, match=f"got '{name}'.*--import FILE.py"):
        find_rule(name)


LOCAL = LocalCutParams(neighborhood='knn', tau_knn=0.115, capacity='affinity')


COLUMNS = np.mgrid[: GRID_HW[0], : GRID_HW[1]][1]
# One disc flat, one falling away: the second is cut off at small thresholds.
RAMP = np.where(COLUMNS > 13, (COLUMNS - 13) * 0.085, 0).astype(np.float32)


def ramp_cloud():
    left, right = two_touching_discs()
    eigenvector = np.where(left, 2.0, 1.0).ravel()
    return build_cloud((left | right).ravel(), eigenvector, RAMP, LOCAL)


def cut_of(depth, confidence, params=LOCAL):
    """Cut two touching discs, the left one the stronger."""
    left, right = two_touching_discs()
    eigenvector = np.where(left, 2.0, 1.0).ravel()
    return cut_in_3d((left | right).ravel(), eigenvector, depth, params, confidence)


def test_confidence_is_the_mean_of_the_cuts():
    params = replace(LOCAL, evidence=None, min_share=0.0)
    found = cut_of(RAMP, ConfidenceParams(num_cuts=6, tau_min_ratio=0.5, spacing='linear'), params)
    taus = np.linspace(LOCAL.tau_knn / 2, LOCAL.tau_knn, 6)
    affinity = partial(LOCAL_CUTS['affinity'], params=LOCAL)
    cuts = [oracles.local_cut(ramp_cloud(), tau, GRID_HW, affinity) for tau in taus]
    assert (found[-1] == cuts[-1]).all()
    expected = np.where(cuts[-1], np.mean(cuts, axis=0), 0)
    assert np.allclose(spatial_confidence(found), expected)


def test_confidence_says_what_the_cuts_say_inside_and_is_zero_outside():
    found = cut_of(RAMP, ConfidenceParams())
    confidence = spatial_confidence(found)
    counts = confidence[found[-1]] * len(found)
    assert counts == pytest.approx(np.rint(counts)) and 1 <= counts.min()
    assert (confidence[~found[-1]] == 0).all()


def test_confidence_is_one_where_all_cuts_agree():
    found = cut_of(np.zeros(GRID_HW, np.float32), ConfidenceParams(num_cuts=1))
    assert (spatial_confidence(found)[found[-1]] == 1).all()


LEFT, RIGHT = two_touching_discs()
BOTH = LEFT | RIGHT


def step_of(height, relief=0.0):
    """Depth of a step between the discs, on a slope along the rows."""
    slope = relief * np.mgrid[: GRID_HW[0], : GRID_HW[1]][0]
    return (np.where(RIGHT, height, 0) + slope).astype(np.float32)


def picked(depth):
    return cut_of(depth, ConfidenceParams(), LocalCutParams())[-1].reshape(GRID_HW)


@pytest.mark.parametrize('height', [0.02, 0.05, 0.1, 0.3, 0.9])
def test_discs_are_parted_at_a_depth_step_of_any_height(height):
    assert (picked(step_of(height)) == LEFT).all()


@pytest.mark.parametrize('height', [0.0, 0.005])
def test_discs_without_a_depth_step_stay_together(height):
    assert (picked(step_of(height)) == BOTH).all()


def test_a_step_within_the_relief_of_the_object_is_no_border():
    assert (picked(step_of(0.1, relief=0.02)) == LEFT).all()
    assert (picked(step_of(0.1, relief=0.11)) == BOTH).all()


def test_a_crumb_of_the_component_is_not_taken():
    depth = np.full(GRID_HW, 0.5, np.float32)
    crumb = np.zeros(GRID_HW, bool)
    crumb[8:11, 5:8] = True
    depth[crumb] = 0.0
    assert picked(depth)[BOTH].sum() >= 0.1 * BOTH.sum()


def test_among_cuts_at_many_thresholds_the_border_of_largest_contrast_wins():
    """A low step that small thresholds cut, inside a high one that large thresholds cut."""
    columns = np.mgrid[: GRID_HW[0], : GRID_HW[1]][1]
    depth = np.where(columns < 7, 0.0, 0.015) + np.where(RIGHT, 0.6, 0.0)
    assert (picked(depth.astype(np.float32)) == LEFT).all()


def test_a_cut_is_cut_again_where_depth_supports_it_clearly():
    """The disc and a fringe of the wall far behind it come first, then the step in the disc."""
    columns = np.mgrid[: GRID_HW[0], : GRID_HW[1]][1]
    depth = (np.where(columns < 7, 0.3, 0.0) + np.where(RIGHT, 0.7, 0.0)).astype(np.float32)
    assert (picked(depth) == (LEFT & (columns >= 7))).all()


def test_a_crumb_around_the_strongest_patch_is_set_aside():
    depth = np.where(RIGHT, 0.3, 0.0)
    depth[8:10, 6:8] = 0.9  # 4 patches, where the eigenvector is strongest
    eigenvector = np.where(LEFT, 2.0, 1.0)
    eigenvector[8:10, 6:8] = 3.0
    found = cut_in_3d(
        BOTH.ravel(),
        eigenvector.ravel(),
        depth.astype(np.float32),
        LocalCutParams(),
        ConfidenceParams(),
    )[-1].reshape(GRID_HW)
    expected = LEFT.copy()
    expected[8:10, 6:8] = False
    assert (found == expected).all()


def test_a_cut_that_keeps_too_little_gives_way_to_the_component():
    params = LocalCutParams(
        neighborhood='knn', capacity='distance', terminals='single', evidence=None, min_share=0.3
    )
    kept = cut_of(step_of(0.0), ConfidenceParams(), params)
    letter = cut_of(step_of(0.0), ConfidenceParams(), replace(params, min_share=0.0))
    assert letter[-1].sum() < 0.3 * BOTH.sum() and (kept[-1].reshape(GRID_HW) == BOTH).all()


@pytest.mark.parametrize('far', [0.1, 0.4])
def test_objects_that_stand_on_the_same_floor_are_parted(far):
    """The floor slopes from one to the other, and never by more than a threshold."""
    objects = disc((9, 5), 5), disc((9, 20), 5)
    floor = np.zeros(GRID_HW, bool)
    floor[10:13, 6:20] = True
    depth = np.interp(COLUMNS, [9, 16], [0.0, far]).astype(np.float32)
    depth[objects[0]], depth[objects[1]] = 0.0, far
    mask = (objects[0] | objects[1] | floor).ravel()
    eigenvector = np.where(objects[0], 2.0, 1.0).ravel()
    cuts = parted(mask, eigenvector, depth)
    assert cuts[:, objects[0].ravel()].all() and not cuts[:, objects[1].ravel()].any()
    found = cut_in_3d(mask, eigenvector, depth, LocalCutParams(), ConfidenceParams())[-1]
    assert found[objects[0].ravel()].all() and not found[objects[1].ravel()].any()


def test_cores_lie_on_either_side_of_each_cut_between_them():
    depth = step_of(0.1)
    eigenvector = np.where(LEFT, 2.0, 1.0).ravel()
    cores = parted(BOTH.ravel(), eigenvector, depth)
    assert len(cores) and (cores == LEFT.ravel()).all()


def test_an_object_with_one_core_is_not_parted():
    eigenvector = np.where(LEFT, 2.0, 1.0).ravel()
    assert parted(LEFT.ravel(), eigenvector, step_of(0.1)).shape == (0, LEFT.size)


@pytest.mark.parametrize(('radius', 'is_parted'), [(0, True), (1, True), (40, False)])
def test_cores_of_a_small_radius_hold_the_discs(radius, is_parted):
    eigenvector = np.where(LEFT, 2.0, 1.0).ravel()
    evidence = replace(LocalCutParams().evidence, core_radius=radius)
    params = replace(LocalCutParams(), evidence=evidence)
    assert bool(len(parted(BOTH.ravel(), eigenvector, step_of(0.1), params))) == is_parted
