from __future__ import annotations

import numpy as np
import pytest
from helpers.drawn import photo

from cuts3d_mm.labellers.features.color_texture import (
    ColorTextureFeatures,
    describe_patches,
)


def test_features_have_a_patch_grid(rng):
    (features,) = ColorTextureFeatures(patch_size=8)([photo(rng, (90, 130))])
    assert features.shape == (11, 16, 9) and features.dtype == np.float32


def test_features_are_the_same_on_every_run(rng):
    image = photo(rng)
    first, second = (ColorTextureFeatures()([image])[0] for _ in range(2))
    assert first.tobytes() == second.tobytes()


def test_colour_and_texture_differ_between_things(rng):
    image = np.full((64, 96, 3), 128, np.uint8)
    image[:, 32:64] = (200, 40, 40)
    image[np.arange(64) % 4 < 2, 64:] = 0
    grid = describe_patches(image, 8, 0.0, (10.0, 1.0, 10.0))
    plain, red, striped = grid[4, 1], grid[4, 6], grid[4, 10]
    assert np.linalg.norm(plain[:3] - red[:3]) > 3
    assert np.linalg.norm(plain[3:7] - striped[3:7]) > 1


def test_image_smaller_than_a_patch_is_refused():
    with pytest.raises(ValueError, match='image must be at least 8 px'):
        ColorTextureFeatures()([np.zeros((4, 90, 3), np.uint8)])
