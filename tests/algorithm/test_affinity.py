from __future__ import annotations

import numpy as np
import pytest
from reference import sharpened_affinity, sharpened_kernel

from cuts3d_mm.algorithm.affinity import link_patches, normalize_features


@pytest.mark.parametrize('pair_rule', ['product', 'mean', 'max'])
@pytest.mark.parametrize('count', [7, 240, 611])
def test_links_equal_thresholded_powers(rng, pair_rule, count):
    features = rng.standard_normal((count, 12)).astype(np.float32)
    importance = rng.uniform(0.45, 1, count).astype(np.float32)
    importance[0] = 1.0  # exponent 0: every positive cosine is a link
    links = link_patches(features, 0.15, importance, pair_rule).unpack()
    exact = sharpened_affinity(features, importance, pair_rule)
    clear = np.abs(exact - 0.15) > 1e-5
    assert (links == (exact > 0.15))[clear].all()
    assert clear.mean() > 0.999


def test_links_without_importance_equal_thresholded_cosines(rng):
    features = rng.standard_normal((500, 16)).astype(np.float32)
    links = link_patches(features, 0.15).unpack()
    exact = sharpened_affinity(features, None, '')
    clear = np.abs(exact - 0.15) > 1e-6
    assert (links == (exact > 0.15))[clear].all()


@pytest.mark.parametrize('pair_rule', ['product', 'mean', 'max'])
def test_gaussian_links_equal_thresholded_powers_of_the_kernel(rng, pair_rule):
    features = (rng.standard_normal((611, 9)) + 40).astype(np.float32)
    importance = rng.uniform(0.45, 1, 611).astype(np.float32)
    links = link_patches(features, 0.15, importance, pair_rule, 'gaussian').unpack()
    exact = sharpened_kernel(features, importance, pair_rule)
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


@pytest.mark.parametrize('tau', [0, 1, -0.2])
def test_threshold_outside_range_is_refused(tau):
    with pytest.raises(ValueError, match=r'tau_ncut must lie in \(0, 1\)'):
        link_patches(np.eye(3, dtype=np.float32), tau)


def test_importance_of_wrong_shape_is_refused():
    with pytest.raises(ValueError, match=r'importance must have shape \(3,\), got \(2,\)'):
        link_patches(np.eye(3, dtype=np.float32), 0.15, np.ones(2, np.float32))


def test_features_of_wrong_shape_are_refused():
    with pytest.raises(ValueError, match=r'features must have shape \(N, C\)'):
        normalize_features(np.zeros((2, 2, 2), np.float32))
