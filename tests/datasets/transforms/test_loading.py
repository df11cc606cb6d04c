from __future__ import annotations

import numpy as np
import pytest
from label_stores import LOADING, dataset_config, write_labelled_images
from mmdet.registry import DATASETS, TRANSFORMS

from cuts3d_mm.structures import ConfidenceBitmapMasks


@pytest.fixture
def load(tmp_path):
    write_labelled_images(tmp_path)

    def run(index=2, **options):
        pipeline = [LOADING[0], {**LOADING[1], **options}]
        return DATASETS.build(dataset_config(tmp_path, pipeline))[index]['gt_masks']

    return run


def test_masks_come_with_confidence_and_scores(load):
    masks = load()
    assert isinstance(masks, ConfidenceBitmapMasks)
    np.testing.assert_allclose(masks.scores, [0.5, 0.6, 0.7])
    for index, mask in enumerate(masks.masks):
        rows, columns = np.nonzero(mask)
        center = int(rows.mean()), int(columns.mean())
        assert masks.confidence[index][center] == pytest.approx(255 * masks.scores[index], abs=1)
        assert masks.confidence[index][0, 0] == 255


def test_score_fills_the_mask(load):
    masks = load(confidence='score')
    for mask, confidence, score in zip(masks.masks, masks.confidence, masks.scores, strict=True):
        assert confidence[mask > 0] == pytest.approx(255 * score, abs=1)
        assert (confidence[mask == 0] == 255).all()


def test_ones_are_certain(load):
    assert (load(confidence='ones').confidence == 255).all()


def test_lower_bound_lifts_the_confidence(load):
    assert load(min_confidence=0.65).confidence.min() == pytest.approx(255 * 0.65, abs=1)


def test_aligned_confidence_ends_with_the_mask(load):
    masks = load(align_to_mask=True)
    for mask, confidence, score in zip(masks.masks, masks.confidence, masks.scores, strict=True):
        assert (confidence[mask == 0] == 255).all()
        assert confidence[mask > 0] == pytest.approx(255 * score, abs=1)


def test_image_without_instances_has_empty_masks(load):
    assert load(3).masks.shape == load(3).doubt.shape == (0, 60, 90)


def test_images_of_another_size_than_their_labels_are_refused_with_the_remedy():
    results = {'img_path': 'a.jpg', 'height': 60, 'width': 90, 'ori_shape': (90, 60)}
    with pytest.raises(ValueError, match='color_ignore_orientation'):
        TRANSFORMS.build({'type': 'cuts3d_mm.LoadPseudoLabels'})(results)


def test_unknown_choice_is_refused():
    with pytest.raises(ValueError, match="'map', 'score' or 'ones'"):
        TRANSFORMS.build({'type': 'cuts3d_mm.LoadPseudoLabels', 'confidence': 'all'})
