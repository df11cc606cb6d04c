"""What torch computes on a device is what numpy computes; here the device is the CPU."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from cuts3d_mm.algorithm.affinity import PackedLinks, link_patches
from cuts3d_mm.algorithm.cut_instances import DepthNotFinite, link_image, link_images
from cuts3d_mm.algorithm.on_device import full_float32, link_words
from cuts3d_mm.algorithm.params import CutParams

GRID_HW = (17, 23)


def features_of(rng, grid_hw=GRID_HW):
    """Patches of five kinds."""
    centres, count = rng.normal(size=(5, 24)), grid_hw[0] * grid_hw[1]
    kinds = centres[rng.integers(0, 5, count)]
    return (kinds + 0.4 * rng.normal(size=kinds.shape)).astype('f4').reshape(*grid_hw, 24)


def depth_of(rng, image_hw):
    """A slope with a box in front of it and a few points far behind."""
    depth = np.linspace(2, 5, image_hw[0], dtype='f4')[:, None] + np.zeros(image_hw, 'f4')
    depth[10:40, 20:50] = 1.5
    depth += rng.normal(0, 0.01, image_hw).astype('f4')
    depth[0, :3] = 400
    return depth


@pytest.mark.parametrize('function', ['metric', 'log', 'inverse'])
@pytest.mark.parametrize('preset', [CutParams, CutParams.paper, CutParams.maskcut])
def test_images_linked_on_a_device_are_those_of_numpy_but_for_rounding(rng, preset, function):
    params = replace(preset(), depth_function=function)
    features = [features_of(rng) for _ in range(6)]
    depths = [depth_of(rng, hw) for hw in [(60, 90), (61, 77)] * 3]
    launched = link_images([torch.from_numpy(one) for one in features], depths, params)
    for found, one, depth in zip(launched(), features, depths, strict=True):
        wanted = link_image(one, depth, params)
        assert found.grid_hw == wanted.grid_hw
        assert found.links.words.dtype == wanted.links.words.dtype
        differing = found.links.unpack() != wanted.links.unpack()
        assert differing.mean() < 1e-4 and 0.05 < wanted.links.unpack().mean() < 0.95
        for name in ('depth', 'importance', 'disparity'):
            ours, theirs = getattr(found, name), getattr(wanted, name)
            assert (ours is None) == (theirs is None)
            if ours is not None:
                np.testing.assert_allclose(ours, theirs, atol=3e-6)
                assert ours.dtype == theirs.dtype


@pytest.mark.parametrize('value', [0, 3.5])
def test_constant_depth_is_zero_and_of_no_importance_on_a_device(rng, value):
    features, depth = features_of(rng), np.full((40, 40), value, 'f4')
    found = link_image(torch.from_numpy(features), depth, CutParams())
    wanted = link_image(features, depth, CutParams())
    assert (found.depth == 0).all() and (found.disparity == wanted.disparity).all()
    assert (found.importance == wanted.importance).all()


def test_full_importance_links_every_positive_similarity(rng):
    features, importance = features_of(rng).reshape(-1, 24), np.ones(391, 'f4')
    (words,) = link_words(torch.from_numpy(features)[None], 0.15, torch.ones(1, 391))
    found = PackedLinks(words.numpy().view('<u2'), 391).unpack()
    np.testing.assert_array_equal(found, link_patches(features, 0.15, importance).unpack())


@pytest.fixture
def tensor_cores():
    matmul = torch.backends.cuda.matmul
    before, matmul.allow_tf32 = matmul.allow_tf32, True
    yield matmul
    matmul.allow_tf32 = before


def test_tensor_cores_do_not_round_the_similarities(rng, tensor_cores):
    seen = []

    class Watched(torch.Tensor):
        @classmethod
        def __torch_function__(cls, function, types, args=(), kwargs=None):
            if 'matmul' in function.__name__:
                seen.append(tensor_cores.allow_tf32)
            return super().__torch_function__(function, types, args, kwargs or {})

    features = torch.from_numpy(features_of(rng)).as_subclass(Watched)
    link_images([features], [None], CutParams.maskcut())
    assert seen == [False] and tensor_cores.allow_tf32


def test_a_thread_that_ends_leaves_full_precision_to_another(tensor_cores):
    first, second = full_float32(), full_float32()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert not tensor_cores.allow_tf32
    second.__exit__(None, None, None)
    assert tensor_cores.allow_tf32


def test_what_cannot_be_compared_is_refused_when_it_comes(rng):
    features, depth = torch.from_numpy(features_of(rng)), depth_of(rng, (60, 60))
    broken = features.clone()
    broken[3, 4] = torch.nan
    waiting = link_images([features, broken], [depth] * 2, CutParams())
    with pytest.raises(ValueError, match='features must be finite'):
        waiting()
    for value in (np.nan, np.inf, -np.inf):
        depth[5, 7] = value
        with pytest.raises(DepthNotFinite):
            link_image(features, depth, CutParams())
    with pytest.raises(ValueError, match="must be 'cosine' on a device"):
        link_image(features, None, CutParams.maskcut(), similarity='gaussian')
