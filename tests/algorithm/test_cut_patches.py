from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import reference
from drawn import GRID_HW, disc, features_of, iou, touching_world

from cuts3d_mm.algorithm import cut_instances as loop
from cuts3d_mm.algorithm.cut_instances import cut_patches
from cuts3d_mm.algorithm.params import ConfidenceParams, CutParams, LocalCutParams, NcutParams


def test_cuts3d_separates_what_maskcut_merges(rng):
    features, depth, left, right = touching_world(rng)
    merged = cut_patches(features, None, CutParams.maskcut()).accepted
    assert iou(merged[0].mask, left | right) > 0.95
    separate = cut_patches(features, depth, CutParams()).accepted
    for disc_mask in (left, right):
        assert max(iou(cut.mask, disc_mask) for cut in separate) > 0.9


@pytest.mark.parametrize('seed', range(6))
def test_maskcut_equals_the_original_loop(seed):
    rng = np.random.default_rng(seed)
    labels = disc((5, 6), 3.5).astype(int) + 2 * disc((12, 19), 4) + 3 * disc((4, 20), 2.5)
    features = features_of(labels, rng, noise=0.9)
    exact = reference.maskcut(features.reshape(-1, 48), GRID_HW, 0.15, 3)
    found = [cut.mask for cut in cut_patches(features, None, CutParams.maskcut()).accepted]
    assert len(found) == len(exact)
    assert all((a == b).all() for a, b in zip(found, exact, strict=True))


@pytest.mark.slow
def test_with_the_sign_of_lapack_maskcut_equals_the_original_to_the_last_patch():
    """With ours they come out otherwise, since the stronger side holds three corners."""
    num_differ = 0
    frame = np.zeros(GRID_HW, bool)
    frame[:3], frame[:, :3] = True, True
    for seed in range(8):
        rng = np.random.default_rng(seed)
        features = features_of(frame + 2 * disc((10, 15), 4), rng, noise=0.9)
        flat = features.reshape(-1, 48)
        exact = reference.maskcut(flat, GRID_HW, 0.15, 3, sign='lapack')
        found = cut_patches(
            features, None, CutParams.maskcut(ncut=NcutParams(sign='lapack'))
        ).accepted
        assert len(found) == len(exact)
        assert all((a.mask == b).all() for a, b in zip(found, exact, strict=True))
        ours = reference.maskcut(flat, GRID_HW, 0.15, 3)
        num_differ += [m.tobytes() for m in ours] != [m.tobytes() for m in exact]
    assert num_differ > 0


def test_masks_do_not_overlap(rng):
    features, depth, *_ = touching_world(rng)
    for params in (CutParams(), CutParams.maskcut()):
        total = sum(cut.mask.astype(int) for cut in cut_patches(features, depth, params).accepted)
        assert total.max() == 1


def test_confidence_lies_on_the_mask(rng):
    features, depth, *_ = touching_world(rng)
    for cut in cut_patches(features, depth, CutParams()).accepted:
        assert (cut.confidence[~cut.mask] == 0).all()
        assert (
            cut.confidence[cut.mask].min() >= 1 / ConfidenceParams().num_cuts - 1e-6
            and cut.confidence.max() <= 1
        )


def test_constant_depth_means_no_3d(rng):
    features, _, left, right = touching_world(rng)
    cuts = cut_patches(features, np.full((30, 44), 2.0, np.float32), CutParams()).accepted
    assert iou(cuts[0].mask, left | right) > 0.9


def test_depth_scale_does_not_change_the_cut(rng):
    features, depth, *_ = touching_world(rng)
    first, second = (
        cut_patches(features, d, CutParams()).accepted for d in (depth, 3 * depth + 1)
    )
    assert all((a.mask == b.mask).all() for a, b in zip(first, second, strict=True))


def test_alike_patches_have_no_instance():
    features = np.ones((*GRID_HW, 8), np.float32)
    assert cut_patches(features, np.ones(GRID_HW, np.float32), CutParams()).accepted == ()
    assert cut_patches(features, None, CutParams.maskcut()).accepted == ()


def test_single_patch_has_no_instance():
    features, depth = np.ones((1, 1, 8), np.float32), np.ones((1, 1), np.float32)
    assert cut_patches(features, depth, CutParams()).accepted == ()


def test_cutting_stops_at_the_rest(rng):
    features = features_of(disc((9, 8), 5).astype(int), rng, noise=0.05)
    flat = np.zeros(GRID_HW, np.float32)
    params = CutParams(importance=None, max_instances=None)
    assert len(cut_patches(features, flat, params).accepted) == 1


def test_until_nothing_is_left_finds_more_than_three(rng):
    centres = [(4, 4), (4, 12), (4, 20), (13, 4), (13, 12), (13, 20)]
    labels = sum(i * disc(c, 3) for i, c in enumerate(centres, start=1))
    features = features_of(labels, rng, noise=0.1)
    flat = np.zeros(GRID_HW, np.float32)
    params = CutParams(importance=None, max_instances=None)
    cuts = cut_patches(features, flat, params).accepted
    found = [max(iou(cut.mask, disc(c, 3)) for cut in cuts) for c in centres]
    assert sum(value > 0.9 for value in found) > 3


def test_small_cuts_are_dropped(rng):
    features, depth, *_ = touching_world(rng)
    params = CutParams(min_area_ratio=0.99, min_area_from_cut=0)
    assert cut_patches(features, depth, params).accepted == ()


@pytest.mark.parametrize('outside', ['drop', 'far'])
def test_result_is_the_same_on_every_run(rng, outside):
    features, depth, *_ = touching_world(rng)
    params = replace(CutParams(), local_cut=LocalCutParams(outside=outside))
    first, second = (cut_patches(features, depth, params).accepted for _ in range(2))
    assert [c.mask.tobytes() for c in first] == [c.mask.tobytes() for c in second]


def test_missing_depth_is_refused(rng):
    with pytest.raises(ValueError, match='depth must be given'):
        cut_patches(np.ones((*GRID_HW, 8), np.float32), None, CutParams())


def test_a_cut_that_earlier_ones_hold_is_returned_with_that_reason(rng):
    features = rng.standard_normal((*GRID_HW, 4)).astype(np.float32)
    whole = np.ones(GRID_HW, bool)
    cut = cut_patches(features, None, CutParams.maskcut()).accepted[0]
    kept, emptied = loop._without_overlap([replace(cut, mask=whole), cut])
    assert [one.mask.all() for one in kept] == [True]
    assert [one.reason for one in emptied] == ['earlier instances hold all of it']


def test_without_a_limit_maskcut_ends_when_a_rejected_cut_can_only_come_again(rng):
    features = features_of(disc((9, 8), 0.8).astype(int), rng, noise=0.05)
    found = cut_patches(features, None, CutParams.maskcut(max_instances=None))
    assert len(found.accepted) == 1 and 1 <= len(found.rejected) <= 3


def test_a_rejected_cut_is_returned_with_its_reason(rng):
    features, depth, *_ = touching_world(rng)
    found = cut_patches(features, depth, CutParams(min_area_ratio=0.5))
    assert found.accepted == () and len(found.rejected) > 0
    assert all('of the image, must be above 50.0%' in cut.reason for cut in found.rejected)
