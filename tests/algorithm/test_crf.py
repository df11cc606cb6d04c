from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from helpers.drawn import disc, iou, photo

from cuts3d_mm.algorithm.crf import (
    build_lattice,
    filter_values,
    infer_masks,
    normalize_weights,
    refine_masks,
    refine_masks_pydensecrf,
    refine_to_image,
)
from cuts3d_mm.algorithm.params import CrfParams, RefineParams

HW = (90, 130)
RECORDED = Path(__file__).parents[1] / 'data/pydensecrf.npz'


def rough_masks(count):
    """Blocky versions of the discs of `photo`."""
    centres = [(45, 39), (45, 84), (45, 60), (30, 90), (60, 30), (45, 45)]
    blocks = [disc((y // 10, x // 10), 2.4, (9, 13)) for y, x in centres[:count]]
    return np.stack([np.kron(block, np.ones((10, 10), bool)) for block in blocks])


def masks_of_pydensecrf(name, masks, image):
    """Masks of pydensecrf 1.1: by the package where it is installed, and as they were recorded.

    It has no ready wheel, and tests need no compiler.
    """
    with np.load(RECORDED) as file:
        recorded = np.unpackbits(file[name], count=masks.size).reshape(masks.shape).astype(bool)
    if find_spec('pydensecrf') is not None:
        assert (refine_masks_pydensecrf(masks, image, CrfParams()) == recorded).all()
    return recorded


@pytest.mark.parametrize('count', [1, 3, 6])
def test_refined_masks_equal_pydensecrf(rng, count):
    image, masks = photo(rng), rough_masks(count)
    found = refine_masks(masks, image, CrfParams())
    exact = masks_of_pydensecrf(f'photo {count}', masks, image)
    assert all(iou(a, b) >= 0.999 for a, b in zip(found, exact, strict=True))


def test_white_noise_equals_pydensecrf(rng):
    image = rng.integers(0, 256, (*HW, 3), dtype=np.uint8)
    masks = rough_masks(2)
    exact = masks_of_pydensecrf('noise', masks, image)
    found = refine_masks(masks, image, CrfParams())
    assert all(iou(a, b) >= 0.999 for a, b in zip(found, exact, strict=True))


def test_masks_follow_the_colours(rng):
    found = refine_masks(rough_masks(1), photo(rng), CrfParams())[0]
    true = disc((45, 39), 22, HW)
    assert iou(found, true) > iou(rough_masks(1)[0], true)


def test_masks_do_not_influence_each_other(rng):
    image, masks = photo(rng), rough_masks(5)
    together = refine_masks(masks, image, CrfParams())
    alone = np.concatenate([refine_masks(mask[None], image, CrfParams()) for mask in masks])
    assert (together == alone).all()


@pytest.mark.parametrize('hw', [(1, 1), (1, 37), (41, 1), (7, 3)])
def test_tiny_images_equal_pydensecrf(rng, hw):
    image = rng.integers(0, 256, (*hw, 3), dtype=np.uint8)
    masks = rng.random((2, *hw)) < 0.5
    exact = masks_of_pydensecrf(f'{hw[0]} x {hw[1]}', masks, image)
    assert (refine_masks(masks, image, CrfParams()) == exact).all()


def test_a_constant_image_equals_pydensecrf():
    image, masks = np.full((*HW, 3), 90, np.uint8), rough_masks(3)
    exact = masks_of_pydensecrf('constant', masks, image)
    assert (refine_masks(masks, image, CrfParams()) == exact).all()


def test_the_same_image_gives_the_same_masks_again(rng):
    image, masks = photo(rng), rough_masks(3)
    first = refine_masks(masks, image, CrfParams())
    refine_masks(masks[:, 8:, :70], image[8:, :70], CrfParams())
    assert (refine_masks(masks, image, CrfParams()) == first).all()


def test_no_masks_stay_no_masks(rng):
    assert refine_masks(np.zeros((0, *HW), bool), photo(rng), CrfParams()).shape == (0, *HW)


def test_image_of_another_size_is_refused(rng):
    with pytest.raises(ValueError, match='image must have shape'):
        refine_masks(np.zeros((1, 5, 6), bool), photo(rng), CrfParams())


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


GRID = disc((4, 4), 2.6, (9, 13))


def test_mask_that_refinement_throws_away_is_dropped(rng):
    speck = np.zeros((9, 13), bool)
    speck[2, 10] = True
    ((mask, iou),) = refine_to_image([speck], photo(rng), (45, 65), RefineParams())
    assert mask is None and iou < 0.5


@pytest.mark.parametrize('method', ['permutohedral', 'none'])
def test_masks_keep_their_order(rng, method):
    masks = [GRID, disc((4, 8), 2.6, (9, 13))]
    (first, _), (second, _) = refine_to_image(
        masks, photo(rng), (45, 65), RefineParams(method=method)
    )
    columns = np.arange(65)
    assert (first.sum(axis=0) @ columns) / first.sum() < (
        second.sum(axis=0) @ columns
    ) / second.sum()


def test_holes_are_filled(rng):
    ring = GRID & ~disc((4, 4), 1, (9, 13))
    found = refine_to_image([ring], photo(rng), (90, 130), RefineParams(method='none', min_iou=0))
    assert found[0][0][45, 45]


def test_nothing_in_is_nothing_out(rng):
    assert refine_to_image([], photo(rng), (10, 20), RefineParams()) == []


def test_mask_that_vanishes_at_the_original_size_is_dropped(rng):
    small = np.zeros((9, 13), bool)
    small[4, 4] = True
    params = RefineParams(method='none')
    ((mask, _),) = refine_to_image([small], photo(rng), (1, 1), params)
    assert mask is None
