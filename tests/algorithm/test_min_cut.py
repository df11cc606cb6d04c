from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import reference

from cuts3d_mm.algorithm.local_cut import Edges, connect_neighbors, source_side


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
    assert (found == reference.source_side(120, edges, capacities, sources, sinks)).all()


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


def test_negative_capacity_is_refused():
    with pytest.raises(ValueError, match='must not be negative'):
        source_side(2, edges_of([(0, 1)]), -np.ones(1), np.array([0]), np.array([1]))
