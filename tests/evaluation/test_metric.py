from __future__ import annotations

import contextlib
import copy
import io
import json

import numpy as np
import pytest
import torch
from helpers.drawn import disc
from mmengine.registry import init_default_scope
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from cuts3d_mm.labels.coco import coco_annotation
from cuts3d_mm.labels.record import encode_instance
from cuts3d_mm.registry import METRICS

INDICES = {'mAP': 0, 'mAP_50': 1, 'mAP_75': 2, 'mAP_s': 3, 'mAP_m': 4, 'mAP_l': 5}
INDICES |= {'AR@1': 6, 'AR@10': 7, 'AR@100': 8}


def scored_by_pycocotools(dataset, detections, kind):
    relabelled = copy.deepcopy(dataset)
    relabelled['categories'] = [{'id': 1, 'name': 'any'}]
    for annotation in relabelled['annotations']:
        annotation['category_id'] = 1
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = relabelled
        truth.createIndex()
        key = 'bbox' if kind == 'bbox' else 'segmentation'
        keys = ('image_id', 'score', key)
        found = truth.loadRes([{k: d[k] for k in keys} | {'category_id': 1} for d in detections])
        evaluation = COCOeval(truth, found, kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {f'{kind}_{name}': evaluation.stats[index] for name, index in INDICES.items()}


def shifted(mask, rng):
    down, right = rng.integers(-4, 5, 2)
    return np.roll(mask, (down, right), (0, 1))


def predictions_near(dataset, rng):
    """Detections that are shifted annotations, and some that are nothing."""
    masks = {image['id']: [] for image in dataset['images']}
    sizes = {image['id']: (image['height'], image['width']) for image in dataset['images']}
    api = COCO()
    api.dataset = dataset
    with contextlib.redirect_stdout(io.StringIO()):
        api.createIndex()
    for annotation in dataset['annotations']:
        mask = shifted(api.annToMask(annotation).astype(bool), rng)
        if mask.any() and rng.random() < 0.7:
            masks[annotation['image_id']].append(mask)
    for image_id, found in masks.items():
        if rng.random() < 0.5:
            found.append(disc((20, 30), 9, sizes[image_id]))
    return masks, sizes


def run_metric(path, kinds, masks, sizes, rng):
    init_default_scope('mmdet')
    metric = METRICS.build(
        {'type': 'cuts3d_mm.ClassAgnosticCocoMetric', 'ann_file': str(path), 'metric': kinds}
    )
    metric.dataset_meta = {'classes': ('object',)}
    detections = []
    for image_id, found in masks.items():
        codes = [coco_mask.encode(np.asfortranarray(m, dtype=np.uint8)) for m in found]
        boxes = np.array([coco_mask.toBbox(c) for c in codes], float).reshape(-1, 4)
        scores = rng.random(len(found)).astype(np.float32)
        corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
        sample = {
            'bboxes': torch.tensor(corners, dtype=torch.float32),
            'scores': torch.tensor(scores),
            'labels': torch.zeros(len(found), dtype=torch.long),
            'masks': codes,
        }
        metric.process(
            {}, [{'img_id': image_id, 'ori_shape': sizes[image_id], 'pred_instances': sample}]
        )
        detections += [
            {'image_id': image_id, 'bbox': b, 'segmentation': c, 'score': float(s)}
            for b, c, s in zip(boxes.tolist(), codes, scores, strict=True)
        ]
    return metric.evaluate(len(masks)), detections


def drawn_dataset():
    images, annotations = [], []
    for image_id, hw in enumerate([(60, 90), (80, 50), (70, 100)], start=1):
        images.append({'id': image_id, 'file_name': 'x', 'height': hw[0], 'width': hw[1]})
        for number in range(image_id):
            mask = disc((25 + 5 * number, 20 + 8 * number), 8 + 3 * number, hw)
            ids = {'id': len(annotations) + 1, 'image_id': image_id}
            extra = {'category_id': 10 + number, 'iscrowd': int(number == 2)}
            code = coco_annotation(encode_instance(mask, None, 1.0), hw)
            annotations.append(code | ids | extra)
    categories = [{'id': 10 + n, 'name': str(n)} for n in range(3)]
    return {'images': images, 'annotations': annotations, 'categories': categories}


@pytest.mark.slow
@pytest.mark.parametrize('kinds', [['bbox', 'segm'], ['bbox']])
def test_scores_equal_pycocotools_on_relabelled_annotations(tmp_path, rng, kinds):
    check(drawn_dataset(), tmp_path, rng, kinds)


@pytest.mark.slow
def test_scores_equal_pycocotools_on_photos(tmp_path, rng, coco287):
    dataset = json.loads((coco287 / 'instances.json').read_text())
    dataset['images'] = dataset['images'][::6]
    shown = {image['id'] for image in dataset['images']}
    dataset['annotations'] = [a for a in dataset['annotations'] if a['image_id'] in shown]
    check(dataset, tmp_path, rng, ['bbox', 'segm'])


def check(dataset, tmp_path, rng, kinds):
    (tmp_path / 'gt.json').write_text(json.dumps(dataset))
    masks, sizes = predictions_near(dataset, rng)
    scores, detections = run_metric(tmp_path / 'gt.json', kinds, masks, sizes, rng)
    for kind in kinds:
        for name, value in scored_by_pycocotools(dataset, detections, kind).items():
            assert scores[f'coco/{name}'] == pytest.approx(value, abs=1e-6), name
    assert len(scores) == len(kinds) * len(INDICES)


def test_images_without_detections_score_zero(tmp_path, rng):
    dataset = drawn_dataset()
    (tmp_path / 'gt.json').write_text(json.dumps(dataset))
    sizes = {image['id']: (image['height'], image['width']) for image in dataset['images']}
    masks = {image_id: [] for image_id in sizes}
    scores, _ = run_metric(tmp_path / 'gt.json', ['segm'], masks, sizes, rng)
    assert scores['coco/segm_mAP'] == 0


def test_other_metrics_are_refused(tmp_path):
    (tmp_path / 'gt.json').write_text(json.dumps(drawn_dataset()))
    with pytest.raises(ValueError, match='metric must be one or both of'):
        METRICS.build(
            {
                'type': 'cuts3d_mm.ClassAgnosticCocoMetric',
                'ann_file': str(tmp_path / 'gt.json'),
                'metric': 'proposal',
            }
        )
