"""Class-agnostic average precision by pycocotools, for labels and detections alike."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from cuts3d_mm.labels.coco_json import CATEGORIES, CATEGORY_ID

# Name of a score -> its name in MMDetection's logs, in the order of COCOeval.stats with maxDets of
# 1, 10 and 100; s, m, l: areas up to 32 x 32, up to 96 x 96 and larger, in pixels.
STATISTICS = {
    'AP': 'mAP',
    'AP50': 'mAP_50',
    'AP75': 'mAP_75',
    'APs': 'mAP_s',
    'APm': 'mAP_m',
    'APl': 'mAP_l',
    'AR1': 'AR@1',
    'AR10': 'AR@10',
    'AR100': 'AR@100',
}
KINDS = ('bbox', 'segm')


def class_agnostic_ap(
    ground_truth: dict[str, Any],
    detections: list[dict[str, Any]],
    kinds: Sequence[str] = KINDS,
) -> dict[str, dict[str, float]]:
    """Score detections with pycocotools, with all categories taken as one class.

    Args:
        ground_truth: a COCO dictionary; crowd regions are ignored as COCO does.
        detections: COCO results with `image_id`, `bbox` (xywh), `segmentation` (RLE) and
            `score`; their category is ignored.
        kinds: shapes to compare, 'bbox', 'segm' or both; without 'segm' no masks are needed.

    Returns:
        Kind -> name in `STATISTICS` -> score in [0, 1]; -1 if there is no ground truth.
    """
    if not detections:
        empty = dict.fromkeys(STATISTICS, 0.0 if ground_truth['annotations'] else -1.0)
        return {kind: dict(empty) for kind in kinds}
    with contextlib.redirect_stdout(io.StringIO()):
        scores = {}
        for kind in kinds:
            evaluation = run_evaluation(ground_truth, detections, kind)
            evaluation.summarize()
            scores[kind] = dict(zip(STATISTICS, map(float, evaluation.stats), strict=False))
    return scores


def run_evaluation(
    ground_truth: dict[str, Any], detections: list[dict[str, Any]], kind: str
) -> COCOeval:
    """Evaluate at least one detection; the arguments are those of `class_agnostic_ap`."""
    truth = COCO()
    truth.dataset = {
        'info': {},
        'images': ground_truth['images'],
        'categories': CATEGORIES,
        # COCOeval treats an object with id 0 as not found, so ids start at 1.
        'annotations': [
            {**annotation, 'id': number, 'category_id': CATEGORY_ID}
            for number, annotation in enumerate(ground_truth['annotations'], 1)
        ],
    }
    truth.createIndex()
    # With both keys, pycocotools would take the area of a mask from its box.
    shape = 'bbox' if kind == 'bbox' else 'segmentation'
    keys = ('image_id', 'score', shape)
    category = {'category_id': CATEGORY_ID}
    found = truth.loadRes([{k: d[k] for k in keys} | category for d in detections])
    evaluation = COCOeval(truth, found, kind)
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation
