from __future__ import annotations

import numpy as np
import pytest
from helpers.drawn import photo

from cuts3d_mm.labellers.features.color_texture import ColorTextureFeatures
from cuts3d_mm.testing import check_feature_source


def test_it_is_a_feature_source_with_a_patch_grid(rng):
    check_feature_source(ColorTextureFeatures(), image_hw=(90, 130), tolerance=0)
    (features,) = ColorTextureFeatures(patch_size=8)([photo(rng, (90, 130))])
    assert features.shape == (11, 16, 9)


def test_colour_and_texture_differ_between_things(rng):
    image = np.full((64, 96, 3), 128, np.uint8)
    image[:, 32:64] = (200, 40, 40)
    image[np.arange(64) % 4 < 2, 64:] = 0
    (grid,) = ColorTextureFeatures(8, 0.0, 10.0, 1.0, 10.0)([image])
    plain, red, striped = grid[4, 1], grid[4, 6], grid[4, 10]
    assert np.linalg.norm(plain[:3] - red[:3]) > 3
    assert np.linalg.norm(plain[3:7] - striped[3:7]) > 1


def test_image_smaller_than_a_patch_is_refused():
    with pytest.raises(ValueError, match='image must be at least 8 px'):
        ColorTextureFeatures()([np.zeros((4, 90, 3), np.uint8)])
