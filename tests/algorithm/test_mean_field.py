from __future__ import annotations

import numpy as np
import pytest

from cuts3d_mm.algorithm.crf import build_lattice, filter_values, infer_masks, normalize_weights


def exact_filter(positions, values):
    squared = ((positions[:, :, None] - positions[:, None]) ** 2).sum(axis=0)
    return np.exp(-squared / 2) @ values


@pytest.mark.parametrize('dimensions', [1, 2, 3, 5])
def test_filter_approximates_the_gaussian(rng, dimensions):
    positions = rng.uniform(0, 4, (dimensions, 700)).astype(np.float32)
    values = np.ones((700, 4), np.float32)
    values[:, 0] = np.sin(positions[0])
    found = filter_values(build_lattice(positions), values)
    exact = exact_filter(positions, values)
    # Normalised, as every user of the lattice does.
    assert np.abs(found[:, 0] / found[:, 1] - exact[:, 0] / exact[:, 1]).max() < 0.2


def test_filter_is_linear(rng):
    lattice = build_lattice(rng.uniform(0, 3, (2, 300)).astype(np.float32))
    first, second = rng.normal(size=(2, 300, 4)).astype(np.float32)
    together = filter_values(lattice, first + 2 * second)
    apart = filter_values(lattice, first) + 2 * filter_values(lattice, second)
    assert np.allclose(together, apart, atol=1e-3)


def test_filter_of_white_noise_is_positive(rng):
    lattice = build_lattice(rng.uniform(0, 255 / 5, (5, 40_000)).astype(np.float32))
    filtered = filter_values(lattice, np.ones((40_000, 4), np.float32))
    assert np.isfinite(filtered).all() and filtered.min() > 0


def test_normalized_weights_divide_by_the_root_of_the_density_before_and_after(rng):
    lattice = build_lattice(rng.uniform(0, 3, (2, 40)).astype(np.float32))
    values = rng.standard_normal((40, 4)).astype(np.float32)
    root = np.sqrt(filter_values(lattice, np.ones((40, 4), np.float32)))
    found = filter_values(normalize_weights(lattice, 7.0), values)
    assert np.allclose(found, 7 * filter_values(lattice, values / root) / root, rtol=1e-3)


def infer_densely(masks, logit, num_iterations, matrices):
    unary = np.where(masks.T, logit, -logit)
    logits = unary
    for _ in range(num_iterations):
        logits = unary + sum(matrix @ np.tanh(logits / 2) for matrix in matrices)
    return logits.T > 0


@pytest.mark.parametrize('count', [1, 3, 6])
@pytest.mark.parametrize('num_iterations', [0, 1, 10])
def test_inferred_masks_equal_those_of_dense_matrices(rng, count, num_iterations):
    positions = rng.uniform(0, 4, (5, 250)).astype(np.float32)
    lattices = [
        normalize_weights(build_lattice(positions[:2]), 4.0),
        normalize_weights(build_lattice(positions), 6.0),
    ]
    masks = rng.random((count, 250)) < 0.5 * (1 + np.sin(3 * positions[0]))
    impulses = np.eye(252, dtype=np.float32)[:250]
    matrices = [
        np.concatenate(
            [filter_values(lattice, impulses[:, i : i + 4]) for i in range(0, 252, 4)], axis=1
        )[:, :250].astype(np.float64)
        for lattice in lattices
    ]
    found = infer_masks(masks, 1.0, num_iterations, *lattices)
    expected = infer_densely(masks, 1.0, num_iterations, matrices)
    assert (found == expected).mean() > 0.999
    assert (found == masks).all() == (num_iterations == 0)
