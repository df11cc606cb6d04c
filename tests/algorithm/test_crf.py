from __future__ import annotations

import numpy as np
import pytest
from drawn import disc, iou, photo

from cuts3d_mm.algorithm.crf import refine_masks, refine_masks_pydensecrf
from cuts3d_mm.algorithm.params import CrfParams

HW = (90, 130)


def rough_masks(count):
    """Blocky versions of the discs of `photo`."""
    centres = [(45, 39), (45, 84), (45, 60), (30, 90), (60, 30), (45, 45)]
    blocks = [disc((y // 10, x // 10), 2.4, (9, 13)) for y, x in centres[:count]]
    return np.stack([np.kron(block, np.ones((10, 10), bool)) for block in blocks])


@pytest.mark.parametrize('count', [1, 3, 6])
def test_refined_masks_equal_pydensecrf(rng, count):
    pytest.importorskip('pydensecrf')
    image, masks = photo(rng), rough_masks(count)
    found = refine_masks(masks, image, CrfParams())
    exact = refine_masks_pydensecrf(masks, image, CrfParams())
    assert all(iou(a, b) >= 0.999 for a, b in zip(found, exact, strict=True))


def test_white_noise_equals_pydensecrf(rng):
    pytest.importorskip('pydensecrf')
    image = rng.integers(0, 256, (*HW, 3), dtype=np.uint8)
    masks = rough_masks(2)
    exact = refine_masks_pydensecrf(masks, image, CrfParams())
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
    pytest.importorskip('pydensecrf')
    image = rng.integers(0, 256, (*hw, 3), dtype=np.uint8)
    masks = rng.random((2, *hw)) < 0.5
    exact = refine_masks_pydensecrf(masks, image, CrfParams())
    assert (refine_masks(masks, image, CrfParams()) == exact).all()


def test_a_constant_image_equals_pydensecrf():
    pytest.importorskip('pydensecrf')
    image, masks = np.full((*HW, 3), 90, np.uint8), rough_masks(3)
    exact = refine_masks_pydensecrf(masks, image, CrfParams())
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
