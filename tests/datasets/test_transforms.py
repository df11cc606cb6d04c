from __future__ import annotations

import copy

import cv2
import numpy as np
import pytest
from helpers import oracles
from helpers.drawn import GRID_HW as GRID
from helpers.drawn import (
    LOADING,
    STORE_GRID_HW,
    dataset_config,
    disc,
    make_older,
    photo,
    touching_world,
    write_labelled_images,
)
from mmcv.transforms.utils import cache_random_params
from mmdet.registry import DATASETS, TRANSFORMS
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from PIL import Image
from scipy.ndimage import binary_erosion

from cuts3d_mm.algorithm.confidence import paste_alpha
from cuts3d_mm.algorithm.cut_instances import cut_instances
from cuts3d_mm.algorithm.masks import patches_touched
from cuts3d_mm.algorithm.params import CutParams
from cuts3d_mm.labels.record import ImageRecord, encode_instance
from cuts3d_mm.labels.store import write_shard
from cuts3d_mm.structures import ConfidenceBitmapMasks

CONFIDENT = 'cuts3d_mm.ConfidentCopyPaste'
RANDOM = 'cuts3d_mm.AlphaBlendCopyPaste'


def drawn(image_hw, centers, level, scores):
    masks = np.stack([disc(center, 9, image_hw) for center in centers]).astype(np.uint8)
    doubt = (masks * (255 * (1 - np.array(scores)))[:, None, None]).astype(np.uint8)
    bitmaps = ConfidenceBitmapMasks(masks, *image_hw, doubt, np.array(scores, np.float32))
    rng = np.random.default_rng(level)
    return {
        'img': rng.integers(0, 256, (*image_hw, 3), dtype=np.uint8),
        'gt_masks': bitmaps,
        'gt_bboxes': bitmaps.get_bboxes(HorizontalBoxes),
        'gt_bboxes_labels': np.zeros(len(masks), np.int64),
        'gt_ignore_flags': np.zeros(len(masks), bool),
    }


def scene():
    target = drawn((60, 92), [(20, 20), (40, 70)], 1, [0.9, 0.8])
    source = drawn((80, 64), [(20, 20), (40, 45), (65, 20)], 2, [0.6, 0.95, 0.7])
    return {**target, 'mix_results': [source]}


@pytest.mark.parametrize('kind', [CONFIDENT, RANDOM])
def test_labels_that_are_not_trained_on_are_not_pasted(kind):
    results = scene()
    results['mix_results'][0]['gt_ignore_flags'][:] = [False, True, True]
    transform = TRANSFORMS.build({'type': kind, 'paste_all': True})
    after = transform(results)
    assert after['gt_masks'].scores[after['gt_masks'].is_pasted].tolist() == [np.float32(0.6)]


@pytest.mark.parametrize('kind', [CONFIDENT, RANDOM])
@pytest.mark.parametrize('alpha', [True, False])
@pytest.mark.parametrize('seed', range(6))
def test_result_equals_the_pixel_by_pixel_oracle(kind, alpha, seed):
    transform = TRANSFORMS.build({'type': kind, 'alpha': alpha})
    before, results = scene(), scene()
    np.random.seed(seed)
    masks = before['mix_results'][0]['gt_masks']
    chosen = transform._select(masks.scores)
    left, top, width, height = transform._draw_window((60, 92))
    np.random.seed(seed)
    results = transform(results)

    resized = masks[chosen].resize((height, width))
    window = np.s_[top : top + height, left : left + width]
    pasted = np.zeros((len(chosen), 60, 92), bool)
    pasted[:, window[0], window[1]] = resized.masks > 0
    confidence = np.full((len(chosen), 60, 92), 255, np.uint8)
    if alpha:
        confidence[:, window[0], window[1]] = 255 - resized.doubt
    source = np.zeros((60, 92, 3), np.uint8)
    source[window] = cv2.resize(before['mix_results'][0]['img'], (width, height))
    image, after, kept = oracles.paste(
        before['img'], source, before['gt_masks'].masks > 0, pasted, confidence, 0.5
    )
    visible = after.any(axis=(1, 2))
    assert (results['img'] == image).all() and results['img'].dtype == np.uint8
    expected = np.concatenate([after[visible], pasted[kept]])
    assert (results['gt_masks'].masks == expected).all()
    assert results['gt_masks'].is_pasted.tolist() == [False] * visible.sum() + [True] * len(kept)
    boxes = BitmapMasks(expected.astype(np.uint8), 60, 92).get_bboxes(HorizontalBoxes)
    assert (results['gt_bboxes'].tensor == boxes.tensor).all()
    assert len(results['gt_bboxes_labels']) == len(results['gt_ignore_flags']) == len(expected)


def counts_of(transform, available, draws=400):
    counts = []
    for seed in range(draws):
        np.random.seed(seed)
        counts.append(len(transform._select(np.linspace(1, 0, available))))
    return counts


@pytest.mark.parametrize('kind', [CONFIDENT, RANDOM])
@pytest.mark.parametrize('available', range(1, 7))
def test_counts_are_drawn_evenly_from_one_to_one_less_than_there_are(kind, available):
    counts = counts_of(TRANSFORMS.build({'type': kind}), available)
    possible = range(1, max(available, 2))
    assert set(counts) == set(possible)
    for count in possible:
        assert counts.count(count) / len(counts) == pytest.approx(1 / len(possible), abs=0.08)


@pytest.mark.parametrize('kind', [CONFIDENT, RANDOM])
def test_selection_changes_which_instances_are_pasted_but_not_how_many(kind):
    others = counts_of(TRANSFORMS.build({'type': CONFIDENT}), 5)
    assert counts_of(TRANSFORMS.build({'type': kind, 'alpha': False}), 5) == others


@pytest.mark.parametrize('kind', [CONFIDENT, RANDOM])
@pytest.mark.parametrize('available', [0, 1, 4])
def test_all_instances_are_pasted_on_request(kind, available):
    transform = TRANSFORMS.build({'type': kind, 'paste_all': True})
    assert set(counts_of(transform, available, draws=20)) == {available}


def test_no_more_instances_are_pasted_than_allowed():
    transform = TRANSFORMS.build({'type': RANDOM, 'paste_all': True, 'max_num_pasted': 3})
    assert len(set(transform._select(np.ones(7)))) == 3


def test_stock_copy_paste_can_still_repeat_its_draws():
    with cache_random_params(TRANSFORMS.build({'type': 'mmdet.CopyPaste'})) as none:
        assert none is None


def test_most_confident_instances_are_pasted():
    transform = TRANSFORMS.build({'type': CONFIDENT})
    scores = np.array([0.5, 0.9, 0.7, 0.8], np.float32)
    for seed in range(20):
        np.random.seed(seed)
        chosen = transform._select(scores)
        assert 1 <= len(chosen) <= 3
        assert chosen.tolist() == [1, 3, 2][: len(chosen)]


def test_full_confidence_equals_a_hard_paste():
    certain = scene()
    source = certain['mix_results'][0]['gt_masks']
    source.doubt = np.zeros_like(source.doubt)
    hard = copy.deepcopy(certain)
    np.random.seed(3)
    blended = TRANSFORMS.build({'type': CONFIDENT, 'alpha': True})(certain)
    np.random.seed(3)
    pasted = TRANSFORMS.build({'type': CONFIDENT, 'alpha': False})(hard)
    assert (blended['img'] == pasted['img']).all()
    assert (blended['gt_masks'].masks == pasted['gt_masks'].masks).all()


def test_masks_without_doubt_stay_without_it_when_others_are_pasted():
    results = scene()
    for one in (results, results['mix_results'][0]):
        one['gt_masks'] = BitmapMasks(one['gt_masks'].masks, *one['img'].shape[:2])
    count = len(results['gt_masks'])
    np.random.seed(0)
    results = TRANSFORMS.build({'type': CONFIDENT})(results)
    assert type(results['gt_masks']) is BitmapMasks and len(results['gt_masks']) > count


def test_empty_images_on_either_side_are_fine():
    for empty in ('target', 'source'):
        results = scene()
        one = results if empty == 'target' else results['mix_results'][0]
        for key in ('gt_masks', 'gt_bboxes', 'gt_bboxes_labels', 'gt_ignore_flags'):
            one[key] = one[key][np.zeros(len(one[key]), bool)]
        results = TRANSFORMS.build({'type': CONFIDENT})(results)
        assert (len(results['gt_masks']) > 0) == (len(results['gt_bboxes']) > 0)


@pytest.mark.parametrize(
    'breaks, message',
    [
        (lambda r: r.pop('mix_results'), 'MixedImagesDataset'),
        (lambda r: r.pop('gt_masks'), 'LoadPseudoLabels'),
    ],
)
def test_wrong_composition_names_the_fix(breaks, message):
    results = scene()
    breaks(results)
    with pytest.raises(ValueError, match=message):
        TRANSFORMS.build({'type': CONFIDENT})(results)


def test_polygon_masks_are_refused_with_the_remedy():
    results = scene()
    polygons = [[np.array([1.0, 1, 9, 1, 9, 9])]] * 3
    results['mix_results'][0]['gt_masks'] = PolygonMasks(polygons, 80, 64)
    with pytest.raises(TypeError, match='poly2mask=True'):
        TRANSFORMS.build({'type': CONFIDENT})(results)


def test_works_inside_the_mix_dataset_of_an_unrelated_config(tmp_path):
    write_labelled_images(tmp_path)
    inner = dataset_config(tmp_path, LOADING, filter_cfg=dict(filter_empty_gt=True))
    dataset = DATASETS.build(
        {
            'type': 'MultiImageMixDataset',
            'dataset': inner,
            'pipeline': [{'type': CONFIDENT}, {'type': 'PackDetInputs'}],
        }
    )
    np.random.seed(0)
    sample = dataset[0]['data_samples'].gt_instances
    assert len(sample.masks) == len(sample.bboxes) == len(sample.labels) > 0
    assert isinstance(sample.masks, ConfidenceBitmapMasks)


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
    agreement = np.where(disc((3, 4), 1.5, STORE_GRID_HW), 1 / 6, 1) * disc(
        (3, 4), 2.5, STORE_GRID_HW
    )
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
        expected = 255 * (1 - masks.scores[index])
        assert masks.doubt[index][center] == pytest.approx(expected, abs=1)
        assert masks.doubt[index][0, 0] == 0


def test_score_fills_the_mask(load):
    masks = load(confidence_source='score')
    for mask, doubt, score in zip(masks.masks, masks.doubt, masks.scores, strict=True):
        assert doubt[mask > 0] == pytest.approx(255 * (1 - score), abs=1)
        assert not doubt[mask == 0].any()


def test_without_a_source_labels_are_certain(load):
    assert not load(confidence_source='none').doubt.any()


@pytest.mark.parametrize('lower_bound', [0.0, 0.25, 0.65])
def test_lower_bound_raises_maps_and_scores(load_cut, lower_bound):
    masks = load_cut(min_confidence=lower_bound)
    assert masks.doubt.max() == pytest.approx(255 * (1 - max(1 / 6, lower_bound)), abs=1)
    agreement = np.where(disc((3, 4), 1.5, STORE_GRID_HW), 1 / 6, 1)[
        disc((3, 4), 2.5, STORE_GRID_HW)
    ]
    assert masks.scores == pytest.approx(np.maximum(agreement, lower_bound).mean(), abs=1 / 255)
    filled = load_cut(min_confidence=lower_bound, confidence_source='score')
    assert filled.doubt.max() == pytest.approx(255 * (1 - masks.scores[0]), abs=1)


def test_lower_bound_is_that_of_the_paper_unless_said_otherwise(load_cut):
    assert load_cut().doubt.max() == 127


def test_older_labels_are_loaded_as_they_were_raised_and_not_lower(load_cut, tmp_path):
    make_older(tmp_path / 'labels')
    assert load_cut().doubt.max() >= 127
    assert load_cut(min_confidence=0.75).doubt.max() == 64
    with pytest.raises(ValueError, match=r'at least 0\.50 .*000\.png.* label the images again'):
        load_cut(min_confidence=0.25)


def border_doubt(masks):
    """Mean doubt of the pixels of the masks that are next to their border, in [0, 1]."""
    bands = [mask & ~binary_erosion(mask, iterations=4) for mask in masks.masks > 0]
    return np.mean([doubt[band].mean() for doubt, band in zip(masks.doubt, bands, strict=True)])


def test_borders_are_certain_where_all_cuts_agree(load, rng, tmp_path):
    features, depth, *_ = touching_world(rng)
    image = photo(rng, (72, 104))
    params = CutParams(confidence=None)  # all cuts agree
    agreeing = cut_instances(features, depth, image, image.shape[:2], params).instances
    for one in agreeing:  # refinement has added patches that no cut has seen
        assert (patches_touched(one.mask, GRID) & ~one.patches).sum() > 10
    relabel(tmp_path, image, [encode_instance(i.mask, i.confidence, i.score) for i in agreeing])
    assert len(agreeing) > 0 and border_doubt(load(0)) <= 0.02
    assert border_doubt(load(0, added_by_refinement='lower_bound')) > 0.1


def test_pixels_of_refinement_are_pasted_in_full_and_pixels_off_the_instance_not_at_all(load_cut):
    masks = load_cut()
    added = (masks.masks[0] > 0) & ~np.kron(
        disc((3, 4), 4, STORE_GRID_HW), np.ones((10, 10), bool)
    )
    share = paste_alpha(masks.masks > 0, masks.doubt)
    assert added.any() and (share[added] == 255).all()
    assert (share[masks.masks[0] == 0] == 0).all()


def test_aligned_confidence_ends_with_the_mask(load):
    masks = load(align_to_mask=True)
    for mask, doubt, score in zip(masks.masks, masks.doubt, masks.scores, strict=True):
        assert not doubt[mask == 0].any()
        assert doubt[mask > 0] == pytest.approx(255 * (1 - score), abs=1)


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
