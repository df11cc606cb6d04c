from __future__ import annotations

import numpy as np
import pytest

from cuts3d_mm.algorithm.crf import build_lattice


def test_weights_are_barycentric(rng):
    lattice = build_lattice(rng.uniform(0, 9, (5, 500)).astype(np.float32))
    assert np.allclose(lattice.weights.sum(axis=1), 1, atol=1e-4)
    assert lattice.weights.min() > -1e-4


def test_points_on_a_vertex_or_an_edge_have_no_negative_weight():
    positions = np.zeros((5, 300), np.float32)
    positions[0] = np.arange(300) * np.sqrt(3) / 6  # multiples of half a cell
    lattice = build_lattice(positions)
    assert lattice.weights.min() > -1e-4 and np.isclose(lattice.weights.max(), 1)


def test_neighbors_are_mutual(rng):
    neighbors = build_lattice(rng.uniform(0, 3, (3, 400)).astype(np.float32)).neighbors
    size = neighbors.shape[1]
    for direction in neighbors:
        there = np.flatnonzero(direction[:, 0] < size)
        assert len(there)
        assert (direction[direction[there, 0], 1] == there).all()


def test_a_simplex_is_a_walk_from_neighbor_to_neighbor(rng):
    lattice = build_lattice(rng.uniform(0, 3, (4, 50)).astype(np.float32))
    for vertices in lattice.vertices:
        near = {(v, n) for v in vertices for n in lattice.neighbors[:, v].ravel()}
        assert len(set(vertices)) == 5
        walk = zip(vertices, np.roll(vertices, -1), strict=True)
        assert all(step in near for step in walk)


def test_white_noise_grows_the_table_beyond_one_vertex_per_point(rng):
    lattice = build_lattice(rng.uniform(0, 255 / 5, (5, 60_000)).astype(np.float32))
    count = lattice.neighbors.shape[1]
    assert count > 2**17  # half of the first table
    assert (np.unique(lattice.vertices) == np.arange(count)).all()
    assert lattice.neighbors.max() == count


def test_positions_beyond_the_keys_are_refused():
    with pytest.raises(ValueError, match='must span less than'):
        build_lattice(np.array([[0, 5000], [0, 0]], np.float32))


def test_positions_that_are_no_numbers_are_refused():
    with pytest.raises(ValueError, match='must span less than'):
        build_lattice(np.array([[0, np.nan]], np.float32))


def test_positions_of_too_many_dimensions_are_refused():
    with pytest.raises(ValueError, match=r'shape \(1..5, P\)'):
        build_lattice(np.zeros((6, 3), np.float32))
