from __future__ import annotations

import numpy as np
import pytest
import torch

from cuts3d_mm.algorithm.affinity import link_patches, link_patches_on_device


@pytest.fixture
def features(rng):
    centres = rng.normal(size=(5, 24))
    return (centres[rng.integers(0, 5, 331)] + 0.4 * rng.normal(size=(331, 24))).astype('f4')


@pytest.mark.parametrize('rule', [None, 'product', 'mean', 'max'])
def test_links_of_a_device_are_those_of_numpy_but_for_rounding(features, rng, rule):
    importance = None if rule is None else rng.uniform(0.2, 1, 331).astype('f4')
    sharpening = () if rule is None else (importance, rule)
    ours = link_patches_on_device(torch.from_numpy(features), 0.15, *sharpening)
    oracle = link_patches(features, 0.15, *sharpening)
    assert ours.words.dtype == oracle.words.dtype and ours.words.shape == oracle.words.shape
    found, expected = ours.unpack(), oracle.unpack()
    assert (found == found.T).all() and (found != expected).mean() < 1e-4
    assert 0.05 < expected.mean() < 0.95


def test_full_importance_links_every_positive_similarity(features):
    importance = np.ones(331, 'f4')
    found = link_patches_on_device(torch.from_numpy(features), 0.15, importance).unpack()
    np.testing.assert_array_equal(found, link_patches(features, 0.15, importance).unpack())


@pytest.fixture
def tensor_cores():
    matmul = torch.backends.cuda.matmul
    before, matmul.allow_tf32 = matmul.allow_tf32, True
    yield matmul
    matmul.allow_tf32 = before


def test_tensor_cores_do_not_round_the_similarities(features, tensor_cores):
    seen = []

    class Watched(torch.Tensor):
        @classmethod
        def __torch_function__(cls, function, types, args=(), kwargs=None):
            if 'matmul' in function.__name__:
                seen.append(tensor_cores.allow_tf32)
            return super().__torch_function__(function, types, args, kwargs or {})

    link_patches_on_device(torch.from_numpy(features).as_subclass(Watched), 0.15)
    assert seen == [False] and tensor_cores.allow_tf32


def test_features_that_cannot_be_compared_are_refused(features):
    broken = torch.from_numpy(features.copy())
    broken[3, 4] = torch.nan
    with pytest.raises(ValueError, match='must be finite'):
        link_patches_on_device(broken, 0.15)
    with pytest.raises(ValueError, match="must be 'cosine' on a device"):
        link_patches_on_device(torch.from_numpy(features), 0.15, similarity='gaussian')
