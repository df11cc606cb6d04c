from __future__ import annotations

import numpy as np
import pytest
from drawn import GRID_HW as GRID
from drawn import disc, photo, touching_world
from label_stores import GRID_HW, LOADING, dataset_config, make_older, write_labelled_images
from mmdet.registry import DATASETS, TRANSFORMS
from PIL import Image
from scipy.ndimage import binary_erosion

from cuts3d_mm.algorithm.confidence import paste_alpha
from cuts3d_mm.algorithm.cut_instances import cut_instances
from cuts3d_mm.algorithm.masks import patches_touched
from cuts3d_mm.algorithm.params import ConfidenceParams, CutParams
from cuts3d_mm.labels.record import ImageRecord, encode_instance
from cuts3d_mm.labels.store import write_shard
from cuts3d_mm.structures import ConfidenceBitmapMasks


@pytest.fixture
def load(tmp_path):
    write_labelled_images(tmp_path)

    def run(index=2, **options):
        pipeline = [LOADING[0], {**LOADING[1], **options}]
        return DATASETS.build(dataset_config(tmp_path, pipeline))[index]['gt_masks']

    return run


def relabel(folder, image, instances):
    """Make the first image and its labels others."""
    Image.fromarray(image).save(folder / 'images' / '000.png')
    write_shard(folder / 'labels', 0, [ImageRecord('000.png', image.shape[:2], tuple(instances))])


@pytest.fixture
def load_cut(load, tmp_path):
    """An instance whose cuts agree but in its middle; refinement has added all of the border."""
    agreement = np.where(disc((3, 4), 1.5, GRID_HW), 1 / 6, 1) * disc((3, 4), 2.5, GRID_HW)
    mask = np.ones((60, 90), bool)
    mask[:, 80:] = False
    score = agreement[agreement > 0].mean()
    relabel(
        tmp_path,
        np.zeros((60, 90, 3), np.uint8),
        [encode_instance(mask, agreement.astype(np.float32), score)],
    )
    return lambda **options: load(0, **options)


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
    masks = load(confidence_source='score')
    for mask, confidence, score in zip(masks.masks, masks.confidence, masks.scores, strict=True):
        assert confidence[mask > 0] == pytest.approx(255 * score, abs=1)
        assert (confidence[mask == 0] == 255).all()


def test_without_a_source_labels_are_certain(load):
    assert (load(confidence_source='none').confidence == 255).all()


@pytest.mark.parametrize('lower_bound', [0.0, 0.25, 0.65])
def test_lower_bound_raises_maps_and_scores(load_cut, lower_bound):
    masks = load_cut(min_confidence=lower_bound)
    assert masks.confidence.min() == pytest.approx(255 * max(1 / 6, lower_bound), abs=1)
    agreement = np.where(disc((3, 4), 1.5, GRID_HW), 1 / 6, 1)[disc((3, 4), 2.5, GRID_HW)]
    assert masks.scores == pytest.approx(np.maximum(agreement, lower_bound).mean(), abs=1 / 255)
    filled = load_cut(min_confidence=lower_bound, confidence_source='score')
    assert filled.confidence.min() == pytest.approx(255 * masks.scores[0], abs=1)


def test_lower_bound_is_that_of_the_paper_unless_said_otherwise(load_cut):
    assert load_cut().confidence.min() == 128


def test_older_labels_are_loaded_as_they_were_raised_and_not_lower(load_cut, tmp_path):
    make_older(tmp_path / 'labels')
    assert load_cut().confidence.min() <= 128
    assert load_cut(min_confidence=0.75).confidence.min() == 191
    with pytest.raises(ValueError, match=r'at least 0\.50 .*000\.png.* label the images again'):
        load_cut(min_confidence=0.25)


def border_doubt(masks):
    """Mean doubt of the pixels of the masks that are next to their border, in [0, 1]."""
    bands = [mask & ~binary_erosion(mask, iterations=4) for mask in masks.masks > 0]
    return np.mean([doubt[band].mean() for doubt, band in zip(masks.doubt, bands, strict=True)])


def test_borders_are_certain_where_all_cuts_agree(load, rng, tmp_path):
    features, depth, *_ = touching_world(rng)
    image = photo(rng, (72, 104))
    params = CutParams(confidence=ConfidenceParams(6, 0.5, 'linear', None))  # often all agree
    found = cut_instances(features, depth, image, image.shape[:2], params).instances
    agreeing = [one for one in found if (one.confidence[one.cut.mask] == 1).all()]
    for one in agreeing:  # refinement has added patches that no cut has seen
        assert (patches_touched(one.mask, GRID) & ~one.cut.mask).sum() > 10
    relabel(tmp_path, image, [encode_instance(i.mask, i.confidence, i.score) for i in agreeing])
    assert len(agreeing) > 0 and border_doubt(load(0)) <= 0.02
    assert border_doubt(load(0, added_by_refinement='lower_bound')) > 0.1


def test_pixels_of_refinement_are_pasted_in_full_and_pixels_off_the_instance_not_at_all(load_cut):
    masks = load_cut()
    added = (masks.masks[0] > 0) & ~np.kron(disc((3, 4), 4, GRID_HW), np.ones((10, 10), bool))
    share = paste_alpha(masks.masks > 0, masks.confidence)
    assert added.any() and (share[added] == 255).all()
    assert (share[masks.masks[0] == 0] == 0).all()


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
    with pytest.raises(TypeError, match="unexpected keyword argument 'confidence'"):
        TRANSFORMS.build({'type': 'cuts3d_mm.LoadPseudoLabels', 'confidence': 'map'})
    with pytest.raises(ValueError, match="must be one of .'map', 'score', 'none'"):
        TRANSFORMS.build({'type': 'cuts3d_mm.LoadPseudoLabels', 'confidence_source': 'all'})
    with pytest.raises(ValueError, match="'certain' or 'lower_bound'"):
        TRANSFORMS.build({'type': 'cuts3d_mm.LoadPseudoLabels', 'added_by_refinement': 'all'})
