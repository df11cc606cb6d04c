from __future__ import annotations

import copy

import cv2
import numpy as np
import pytest
import reference
from drawn import disc
from label_stores import LOADING, dataset_config, write_labelled_images
from mmcv.transforms.utils import cache_random_params
from mmdet.registry import DATASETS, TRANSFORMS
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks, PolygonMasks

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
        confidence[:, window[0], window[1]] = resized.confidence
    source = np.zeros((60, 92, 3), np.uint8)
    source[window] = cv2.resize(before['mix_results'][0]['img'], (width, height))
    image, after, kept = reference.paste(
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


def test_masks_without_confidence_are_pasted_hard():
    results = scene()
    for one in (results, results['mix_results'][0]):
        one['gt_masks'] = BitmapMasks(one['gt_masks'].masks, *one['img'].shape[:2])
    results = TRANSFORMS.build({'type': CONFIDENT})(results)
    assert isinstance(results['gt_masks'], ConfidenceBitmapMasks)
    assert (results['gt_masks'].confidence == 255).all()


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
