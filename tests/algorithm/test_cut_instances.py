from __future__ import annotations

import numpy as np
import pytest
from drawn import disc, iou, photo, touching_world

from cuts3d_mm.algorithm.cut_instances import cut_instances
from cuts3d_mm.algorithm.masks import patches_touched
from cuts3d_mm.algorithm.params import CutParams, RefineParams

IMAGE_HW = (270, 390)


@pytest.fixture
def instances(rng):
    features, depth, *_ = touching_world(rng)
    params = CutParams(refine=RefineParams(method='none'))
    return cut_instances(features, depth, photo(rng, (90, 130)), IMAGE_HW, params).instances


def test_masks_have_the_size_of_the_original_image(instances):
    assert instances and all(instance.mask.shape == IMAGE_HW for instance in instances)


def test_score_is_the_mean_confidence_of_the_cut(instances):
    for instance in instances:
        assert instance.score == pytest.approx(instance.cut.confidence[instance.cut.mask].mean())


def test_confidence_covers_exactly_the_patches_of_the_cut(rng):
    features, depth, *_ = touching_world(rng)
    for instance in cut_instances(features, depth, photo(rng), IMAGE_HW, CutParams()).instances:
        touched = patches_touched(instance.mask, instance.cut.mask.shape)
        assert (touched & ~instance.cut.mask).any()  # refinement has added patches
        assert ((instance.confidence > 0) == instance.cut.mask).all()


def test_refined_masks_follow_the_image(rng):
    labels = np.kron(disc((9, 8), 4.4), np.ones((5, 5), bool))
    features, depth, left, _ = touching_world(rng)
    refined = cut_instances(features, depth, photo(rng), IMAGE_HW, CutParams()).instances
    assert labels.shape == (90, 130)
    assert all(instance.mask.any() for instance in refined)
    assert max(iou(i.mask, np.kron(left, np.ones((15, 15), bool))) for i in refined) > 0.6
