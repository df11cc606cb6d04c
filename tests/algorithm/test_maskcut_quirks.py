"""Each habit of MaskCut, one by one, on eigenvectors that are prescribed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import reference
from drawn import GRID_HW, disc, features_of, photo
from PIL import Image

from cuts3d_mm.algorithm import cut_instances as loop
from cuts3d_mm.algorithm.affinity import link_patches, normalize_features
from cuts3d_mm.algorithm.crf import refine_to_image
from cuts3d_mm.algorithm.masks import enlarge_patches
from cuts3d_mm.algorithm.ncut import Eigenpair, second_eigenvector, split_foreground
from cuts3d_mm.algorithm.params import CutParams, NcutParams
from cuts3d_mm.images.reading import resize_rgb

MASKCUT = CutParams.maskcut()
LEFT, RIGHT, MIDDLE = disc((9, 6), 4), disc((9, 20), 4), disc((9, 13), 2)
SHIFTED = disc((10, 6), 4)  # the left disc one row lower: IoU 0.6
SMALL = disc((3, 13), 1)  # 5 of 468 patches, barely more than 1 %
TINY = disc((3, 13), 0.5)  # one patch


@pytest.fixture
def cut(monkeypatch):
    """Run the loop; solve i gives the i-th mask as foreground. Returns the masks it keeps."""

    def run(masks, params=MASKCUT):
        left = iter(masks)

        def solve(links, is_free, ncut):
            mask = next(left, None)
            if mask is None:
                return None
            return Eigenpair(np.where(mask, 1.0, -0.1).ravel(), 0.5, 0.1)

        monkeypatch.setattr(loop, 'second_eigenvector', solve)
        cuts = loop.cut_patches(np.ones((*GRID_HW, 4), np.float32), None, params).accepted
        return [one.mask for one in cuts]

    return run


def same(found, expected):
    return len(found) == len(expected) and all(
        (a == b).all() for a, b in zip(found, expected, strict=True)
    )


def test_1_the_first_cut_may_be_of_any_size(cut):
    assert same(cut([TINY, LEFT]), [TINY, LEFT])
    assert same(cut([LEFT, TINY, TINY]), [LEFT])
    assert same(
        cut([TINY, LEFT], replace(MASKCUT, min_area_from_cut=0, remove_rejected=True)), [LEFT]
    )


def test_2_a_later_cut_must_cover_more_than_one_percent(cut):
    assert SMALL.mean() > 0.01 > TINY.mean()
    assert same(cut([LEFT, SMALL]), [LEFT, SMALL])


def test_3_a_cut_is_compared_with_the_one_just_before_only(cut):
    assert same(cut([LEFT, RIGHT, SHIFTED]), [LEFT, RIGHT, SHIFTED & ~LEFT])


def test_4_a_rejected_cut_stays_in_the_graph_and_is_accepted_when_found_again(cut):
    """After a rejection there is nothing to compare with, and the graph is as it was."""
    assert same(cut([LEFT, SHIFTED]), [LEFT, SHIFTED & ~LEFT])
    assert same(cut([LEFT, SHIFTED, RIGHT], replace(MASKCUT, remove_rejected=True)), [LEFT, RIGHT])


def test_5_a_rejected_cut_counts_towards_n(cut):
    masks = [LEFT, TINY, RIGHT, MIDDLE]
    removed = replace(MASKCUT, remove_rejected=True)
    assert same(cut(masks, removed), [LEFT, RIGHT])
    assert same(cut(masks, replace(removed, count_rejected=False)), [LEFT, RIGHT, MIDDLE])


def test_6_the_earlier_cut_keeps_what_two_of_them_hold(cut):
    both = LEFT | disc((9, 10), 3)
    assert (LEFT & both).sum() / both.sum() > 0.5
    found = cut([LEFT, RIGHT, both])
    assert same(found, [LEFT, RIGHT, both & ~LEFT])


def test_7_claimed_patches_stay_in_the_graph_without_a_link(rng):
    features = features_of(LEFT + 2 * RIGHT, rng).reshape(-1, 48)
    links = link_patches(normalize_features(features), 0.15)
    found = second_eigenvector(links, ~LEFT.ravel(), NcutParams())
    zeroed = normalize_features(features * ~LEFT.ravel()[:, None])
    affinity = np.where(zeroed @ zeroed.T > 0.15, 1.0, reference.EPSILON)
    exact = reference.second_eigenvector(affinity)
    assert len(found.vector) == LEFT.size
    assert found.vector @ exact / np.linalg.norm(exact) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize('sign', [1, -1])
def test_8_the_sign_decides_where_the_stronger_side_holds_three_corners(sign):
    frame = np.zeros(GRID_HW, bool)
    frame[:3], frame[:, :3] = True, True
    vector = sign * np.where(frame, 1.0, -0.2).ravel()
    foreground = split_foreground(vector, GRID_HW).foreground.reshape(GRID_HW)
    assert (foreground == (frame if sign < 0 else ~frame)).all()


def test_9_only_the_4_connected_part_with_the_strongest_patch_is_kept(cut):
    apart = LEFT | RIGHT
    apart[14, 7] = True  # touches the left disc at a corner
    assert same(cut([apart]), [LEFT])


def test_10_masks_are_resized_bicubically_and_cut_at_half_of_the_maximum(rng):
    params = replace(MASKCUT.refine, method='none')
    image = photo(rng, (72, 104))
    (found,) = refine_to_image([LEFT], image, (111, 77), params)
    pixels = Image.fromarray(enlarge_patches(LEFT, (72, 104)).astype(np.uint8) * 255)
    expected = np.asarray(pixels.resize((77, 111), Image.Resampling.BICUBIC))
    assert (found != (expected > expected.max() / 2)).mean() < 0.001


def test_11_holes_are_filled_and_a_mask_that_changes_too_much_is_dropped(rng):
    params = replace(MASKCUT.refine, method='none')
    ring = LEFT & ~disc((9, 6), 2)
    thin = disc((9, 13), 7) & ~disc((9, 13), 6)
    found = refine_to_image([ring, thin], photo(rng, (72, 104)), (72, 104), params)
    assert (found[0] == enlarge_patches(LEFT, (72, 104))).all()
    assert found[1] is None


def test_12_images_are_stretched_to_the_input_size():
    tall = np.zeros((90, 30, 3), np.uint8)
    tall[:45] = 255
    stretched = resize_rgb(tall, (60, 80))
    assert stretched.shape == (60, 80, 3)
    assert (stretched[:25] == 255).all() and (stretched[35:] == 0).all()
