from __future__ import annotations

from itertools import combinations_with_replacement

import numpy as np
import pytest
from helpers import oracles
from helpers.drawn import pack_links
from helpers.oracles import sharpened_affinity, sharpened_kernel

from cuts3d_mm.algorithm.affinity import (
    link_patches,
    linked_sums,
    no_links,
    normalize_features,
    spatial_importance,
    write_links,
)
from cuts3d_mm.algorithm.params import ImportanceParams


@pytest.mark.parametrize('count', [7, 240, 611])
def test_links_equal_thresholded_powers(rng, count):
    features = rng.standard_normal((count, 12)).astype(np.float32)
    importance = rng.uniform(0.45, 1, count).astype(np.float32)
    importance[0] = 1.0  # exponent 0: every positive cosine is a link
    links = link_patches(features, 0.15, importance).unpack()
    exact = sharpened_affinity(features, importance)
    clear = np.abs(exact - 0.15) > 1e-5
    assert (links == (exact > 0.15))[clear].all()
    assert clear.mean() > 0.999


def test_links_without_importance_equal_thresholded_cosines(rng):
    features = rng.standard_normal((500, 16)).astype(np.float32)
    links = link_patches(features, 0.15).unpack()
    exact = sharpened_affinity(features, None)
    clear = np.abs(exact - 0.15) > 1e-6
    assert (links == (exact > 0.15))[clear].all()


def test_gaussian_links_equal_thresholded_powers_of_the_kernel(rng):
    features = (rng.standard_normal((611, 9)) + 40).astype(np.float32)
    importance = rng.uniform(0.45, 1, 611).astype(np.float32)
    links = link_patches(features, 0.15, importance, 'gaussian').unpack()
    exact = sharpened_kernel(features, importance)
    clear = np.abs(exact - 0.15) > 1e-4
    assert (links == (exact > 0.15))[clear].all()
    assert clear.mean() > 0.99 and 0.02 < links.mean() < 0.98


def test_a_cosine_of_exactly_the_threshold_is_no_link():
    tau = np.float32(0.15)
    features = np.array([[1, 0], [tau, np.sqrt(1 - tau**2)]], np.float32)
    assert not link_patches(features, 0.15).unpack()[0, 1]


def test_features_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match='features must be finite'):
        link_patches(np.array([[1, np.nan], [1, 0]], np.float32), 0.15, similarity='gaussian')


def test_links_are_symmetric(rng):
    features = rng.standard_normal((733, 24)).astype(np.float32)
    links = link_patches(features, 0.15, rng.uniform(0, 1, 733).astype(np.float32)).unpack()
    assert (links == links.T).all()


def test_full_importance_links_positive_cosines_only():
    features = np.array([[1, 0], [1, 0.01], [-1, 0]], np.float32)
    links = link_patches(features, 0.5, np.ones(3, np.float32)).unpack()
    assert links.tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 1]]


def test_zero_feature_links_to_nothing():
    links = link_patches(
        normalize_features(np.array([[0.0, 0], [1, 0]], np.float32)), 0.15
    ).unpack()
    assert links.tolist() == [[0, 0], [0, 1]]


def test_importance_of_wrong_shape_is_refused():
    with pytest.raises(ValueError, match=r'importance must have shape \(3,\), got \(2,\)'):
        link_patches(np.eye(3, dtype=np.float32), 0.15, np.ones(2, np.float32))


def test_features_of_wrong_shape_are_refused():
    with pytest.raises(ValueError, match=r'features must have shape \(N, C\)'):
        normalize_features(np.zeros((2, 2, 2), np.float32))


def test_importance_equals_the_equations(rng):
    depth = rng.uniform(0, 1, (13, 21)).astype(np.float32)
    found = spatial_importance(depth, ImportanceParams(beta=0.45, sigma_patches=1.5))
    assert np.allclose(found, oracles.spatial_importance(depth, 1.5, 0.45), atol=1e-5)


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


def graph(rng, count):
    links = rng.random((count, count)) < 0.3
    return (links | links.T).astype(np.uint8)


@pytest.mark.parametrize('count', [1, 7, 8, 9, 61, 128])
def test_unpacked_links_are_the_packed_ones(rng, count):
    links = graph(rng, count)
    assert (pack_links(links).unpack() == links).all()


@pytest.mark.parametrize('count', [1, 7, 8, 9, 61, 128])
def test_sums_equal_the_matrix_product(rng, count):
    links, vector = graph(rng, count), rng.normal(size=count).astype(np.float32)
    expected = links.astype(np.float64) @ vector
    np.testing.assert_allclose(linked_sums(pack_links(links), vector), expected, atol=1e-5)


@pytest.mark.parametrize('size', [16, 48, 112])
def test_links_written_tile_by_tile_are_those_packed_at_once(rng, size):
    links = graph(rng, 157)
    packed = no_links(157)
    for row, column in combinations_with_replacement(range(0, 157, size), 2):
        tile = links[row : row + size, column : column + size].astype(bool)
        if row == column:
            tile = np.triu(tile)
        write_links(packed, tile, row, column)
    assert (packed.words == pack_links(links).words).all()
