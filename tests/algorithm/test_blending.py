from __future__ import annotations

import numpy as np
import reference
from drawn import disc

from cuts3d_mm.algorithm.confidence import blend, may_be_pasted, paste_alpha

HW = (30, 42)


def images(rng):
    return rng.integers(0, 256, (2, *HW, 3), dtype=np.uint8)


def test_full_alpha_is_the_source_and_none_is_the_target(rng):
    source, target = images(rng)
    assert (blend(source, target, np.full(HW, 255, np.uint8)) == source).all()
    assert (blend(source, target, np.zeros(HW, np.uint8)) == target).all()


def test_blend_equals_the_equation(rng):
    source, target = images(rng)
    alpha = rng.integers(0, 256, HW, dtype=np.uint8)
    share = alpha[..., None] / 255
    expected = np.rint(share * source + (1 - share) * target)
    assert (blend(source, target, alpha) == expected).all()
    floats = blend(source.astype(np.float32), target.astype(np.float32), alpha)
    np.testing.assert_allclose(floats, share * source + (1 - share) * target, atol=1e-3)


def test_alpha_is_the_confidence_inside_the_masks():
    masks = np.stack([disc((10, 10), 6, HW), disc((10, 18), 6, HW)])
    confidence = np.stack([np.full(HW, 100, np.uint8), np.full(HW, 200, np.uint8)])
    alpha = paste_alpha(masks, confidence)
    assert (alpha[~masks.any(axis=0)] == 0).all()
    assert (alpha[masks[0] & ~masks[1]] == 100).all() and (alpha[masks[1]] == 200).all()


def test_instances_that_cover_too_much_are_left_out():
    existing = np.stack([disc((10, 10), 6, HW), disc((20, 30), 5, HW)])
    pasted = np.stack(
        [disc((10, 11), 5, HW), disc((10, 18), 6, HW), np.zeros(HW, bool), disc((22, 12), 4, HW)]
    )
    areas = existing.sum(axis=(1, 2))
    assert may_be_pasted(pasted, existing, areas, 0.5).tolist() == [False, True, False, True]


def test_without_existing_instances_all_visible_ones_may_be_pasted():
    pasted = np.stack([disc((10, 11), 5, HW), np.zeros(HW, bool)])
    nothing = np.zeros((0, *HW), bool)
    assert may_be_pasted(pasted, nothing, np.zeros(0), 0.5).tolist() == [True, False]


def test_pasting_equals_the_pixel_by_pixel_oracle(rng):
    source, target = images(rng)
    existing = np.stack([disc((10, 10), 6, HW), disc((20, 30), 5, HW)])
    pasted = np.stack([disc((10, 11), 5, HW), disc((12, 18), 6, HW), disc((22, 12), 4, HW)])
    confidence = rng.integers(0, 256, pasted.shape, dtype=np.uint8)
    image, _, kept = reference.paste(target, source, existing, pasted, confidence, 0.5)
    found = may_be_pasted(pasted, existing, existing.sum(axis=(1, 2)), 0.5)
    assert np.flatnonzero(found).tolist() == kept
    assert (blend(source, target, paste_alpha(pasted[found], confidence[found])) == image).all()
