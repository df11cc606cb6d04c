"""Compute class-agnostic AP and AR with pycocotools."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from cuts3d_mm.labels.coco_json import CATEGORIES, CATEGORY_ID

# name -> index in COCOeval.stats with its default maxDets of 1, 10, 100; s, m, l: areas up to
# 32 x 32, up to 96 x 96 and larger, in pixels
METRICS = {
    'AP': 0,
    'AP50': 1,
    'AP75': 2,
    'APs': 3,
    'APm': 4,
    'APl': 5,
    'AR1': 6,
    'AR10': 7,
    'AR100': 8,
}
KINDS = ('bbox', 'segm')


def class_agnostic_ap(
    ground_truth: dict[str, Any],
    detections: list[dict[str, Any]],
    kinds: Sequence[str] = KINDS,
) -> dict[str, dict[str, float]]:
    """Score detections with pycocotools, every category counting as one.

    Args:
        ground_truth: a COCO dictionary; crowd regions are ignored as COCO does.
        detections: COCO results with `image_id`, `bbox` (xywh), `segmentation` (RLE) and
            `score`; their category is ignored.
        kinds: what to compare, of 'bbox' and 'segm'; without 'segm' no masks are needed.

    Returns:
        {kind: {...}}, each with the names of `METRICS`, in [0, 1]; -1 where
        there is no ground truth.
    """
    if not detections:
        empty = dict.fromkeys(METRICS, 0.0 if ground_truth['annotations'] else -1.0)
        return {kind: dict(empty) for kind in kinds}
    with contextlib.redirect_stdout(io.StringIO()):
        return {kind: _summarize(run_evaluation(ground_truth, detections, kind)) for kind in kinds}


def run_evaluation(
    ground_truth: dict[str, Any], detections: list[dict[str, Any]], kind: str
) -> COCOeval:
    """Evaluate at least one detection; the arguments are those of `class_agnostic_ap`."""
    truth = COCO()
    truth.dataset = {
        'info': {},
        'images': ground_truth['images'],
        'categories': CATEGORIES,
        # COCOeval takes an object of id 0 as not found, so they are counted from 1.
        'annotations': [
            {**annotation, 'id': number, 'category_id': CATEGORY_ID}
            for number, annotation in enumerate(ground_truth['annotations'], 1)
        ],
    }
    truth.createIndex()
    # With both keys present pycocotools would take a mask's area from its box.
    shape = 'bbox' if kind == 'bbox' else 'segmentation'
    keys = ('image_id', 'score', shape)
    category = {'category_id': CATEGORY_ID}
    found = truth.loadRes([{k: d[k] for k in keys} | category for d in detections])
    evaluation = COCOeval(truth, found, kind)
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation


def _summarize(evaluation: COCOeval) -> dict[str, float]:
    evaluation.summarize()
    return {name: float(evaluation.stats[index]) for name, index in METRICS.items()}
