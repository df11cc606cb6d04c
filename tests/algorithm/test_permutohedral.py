from __future__ import annotations

import numpy as np
import pytest

from cuts3d_mm.algorithm.permutohedral import build_lattice, filter_values


def exact_filter(positions, values):
    squared = ((positions[:, None] - positions[None]) ** 2).sum(axis=-1)
    return np.exp(-squared / 2) @ values


@pytest.mark.parametrize('dimensions', [1, 2, 3, 5])
def test_filter_approximates_the_gaussian(rng, dimensions):
    positions = rng.uniform(0, 4, (700, dimensions)).astype(np.float32)
    values = np.ones((700, 4), np.float32)
    values[:, 0] = np.sin(positions[:, 0])
    found = filter_values(build_lattice(positions), values)
    exact = exact_filter(positions, values)
    # Normalised, as every user of the lattice does.
    assert np.abs(found[:, 0] / found[:, 1] - exact[:, 0] / exact[:, 1]).max() < 0.2


def test_weights_are_barycentric(rng):
    lattice = build_lattice(rng.uniform(0, 9, (500, 5)).astype(np.float32))
    assert np.allclose(lattice.weights.sum(axis=1), 1, atol=1e-4)
    assert lattice.weights.min() > -1e-4


def test_neighbors_are_mutual(rng):
    neighbors = build_lattice(rng.uniform(0, 3, (400, 3)).astype(np.float32)).neighbors
    size = neighbors.shape[1]
    for direction in neighbors:
        there = np.flatnonzero(direction[:, 0] < size)
        assert (direction[direction[there, 0], 1] == there).all()


def test_white_noise_grows_the_table_beyond_one_vertex_per_position(rng):
    positions = rng.uniform(0, 255 / 5, (40_000, 5)).astype(np.float32)
    lattice = build_lattice(positions)
    assert lattice.neighbors.shape[1] > len(positions)
    assert lattice.vertices.max() == lattice.neighbors.shape[1] - 1
    filtered = filter_values(lattice, np.ones((40_000, 4), np.float32))
    assert np.isfinite(filtered).all() and filtered.min() > 0


def test_filter_is_linear(rng):
    lattice = build_lattice(rng.uniform(0, 3, (300, 2)).astype(np.float32))
    first, second = rng.normal(size=(2, 300, 4)).astype(np.float32)
    together = filter_values(lattice, first + 2 * second)
    apart = filter_values(lattice, first) + 2 * filter_values(lattice, second)
    assert np.allclose(together, apart, atol=1e-3)


def test_positions_beyond_the_keys_are_refused():
    with pytest.raises(ValueError, match='must span less than'):
        build_lattice(np.array([[0, 0], [5000, 0]], np.float32))


def test_positions_of_too_many_dimensions_are_refused():
    with pytest.raises(ValueError, match=r'shape \(P, 1..5\)'):
        build_lattice(np.zeros((3, 6), np.float32))
