from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.drawn import FEATURES, MASKCUT, photo

from cuts3d_mm.images.reading import NamedImage
from cuts3d_mm.labellers.embedding import describing_features
from cuts3d_mm.labellers.features.color_texture import ColorTextureFeatures
from cuts3d_mm.labellers.registry import build_labeller, resolve_config


@pytest.mark.parametrize('crops', [False, True])
def test_a_labeller_describes_instances_as_a_generator_does_itself(rng, crops):
    inner = {**MASKCUT, 'crops': crops}
    around = {
        'type': 'cuts3d_mm.EmbeddingLabeller',
        'labeller': inner,
        'features': FEATURES,
        'input_hw': MASKCUT['input_hw'],
    }
    images = [NamedImage('a.png', photo(rng)), NamedImage('b.png', photo(rng, (70, 150)))]
    own = build_labeller({**inner, 'embed': True}).predict_batch(images)
    other = build_labeller(around).predict_batch(images)
    assert [len(found) for found in own] == [len(found) for found in other] and own[0]
    for one, two in zip(sum(own, []), sum(other, []), strict=True):
        assert np.array_equal(one.mask, two.mask)
        assert one.embedding.shape == (7,)  # without the position
        assert np.array_equal(one.embedding, two.embedding)
    assert all(one.embedding is None for one in build_labeller(inner).predict_batch(images)[0])
    assert resolve_config(around)['labeller']['embed'] is False


def test_features_that_compare_by_their_cosine_are_brought_to_length_1(rng):
    features = rng.standard_normal((3, 4, 5)).astype(np.float32)
    for given in (features, torch.from_numpy(features)):
        found = describing_features(object(), given)
        assert found.dtype == np.float16
        np.testing.assert_allclose(np.linalg.norm(found, axis=-1), 1, atol=2e-3)
    described = describing_features(ColorTextureFeatures(), features)
    np.testing.assert_allclose(described, features[..., :3], rtol=1e-3)
