from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from cuts3d_mm.algorithm import masks


def random_masks():
    for seed in range(300):
        rng = np.random.default_rng(seed)
        height, width = rng.integers(1, 40, 2)
        mask = rng.random((height, width)) < rng.uniform(0.2, 0.9)
        yield rng, ndimage.binary_opening(mask) if seed % 2 else mask


@pytest.mark.parametrize('choice', ['compiled', 'plain'])
def test_holes_and_components_equal_those_of_scipy(choice, monkeypatch):
    kernel = masks._flood
    function = kernel.plain if choice == 'plain' else kernel.compiled()
    monkeypatch.setattr(masks, '_flood', function)
    for rng, mask in random_masks():
        assert np.array_equal(masks.fill_holes(mask), ndimage.binary_fill_holes(mask))
        pixels = np.argwhere(mask)
        if len(pixels):
            row, column = (int(index) for index in rng.choice(pixels))
            labels, _ = ndimage.label(mask)
            expected = labels == labels[row, column]
            assert np.array_equal(masks.component_of(mask, (row, column)), expected)


def test_a_spiral_is_one_component():
    mask = np.ones((21, 33), bool)
    for inset in range(1, 10, 2):
        mask[inset, inset - 1 : 33 - inset] = mask[20 - inset, inset : 33 - inset] = False
        mask[inset : 21 - inset, 32 - inset] = mask[inset + 2 : 21 - inset, inset] = False
    assert np.array_equal(masks.component_of(mask, (0, 0)), mask)
    assert not mask.all()
