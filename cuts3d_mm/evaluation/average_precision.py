"""Class-agnostic average precision as pycocotools computes it, for labels and detections alike.

faster-coco-eval does the work where it is installed, with equal results.
"""

from __future__ import annotations

import contextlib
import copy
import io
from collections.abc import Collection, Mapping, Sequence
from typing import Any

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
    """Score detections as pycocotools does, with all categories taken as one class.

    Args:
        ground_truth: a COCO dictionary; crowd regions are ignored as COCO does.
        detections: COCO results with `image_id`, `bbox` (xywh), `segmentation` (RLE) and
            `score`; their category is ignored.
        kinds: shapes to compare, 'bbox', 'segm' or both; without 'segm' no masks are needed.

    Returns:
        Kind -> name in `STATISTICS` -> score in [0, 1]; -1 if there is no ground truth.
    """
    evaluations = {kind: run_evaluation(ground_truth, detections, kind) for kind in kinds}
    return summarize(ground_truth, evaluations)


def summarize(
    ground_truth: dict[str, Any],
    evaluations: Mapping[str, Any],
    image_ids: Collection[Any] | None = None,
) -> dict[str, dict[str, float]]:
    """Summarize results of `run_evaluation`, by kind, as `class_agnostic_ap` does.

    With `image_ids` only these images are taken into account; nothing is matched again.
    """
    annotations, scores = ground_truth['annotations'], {}
    is_there = any(image_ids is None or a['image_id'] in image_ids for a in annotations)
    for kind, evaluation in evaluations.items():
        figures = [0.0 if is_there else -1.0] * len(STATISTICS)
        if evaluation is not None:
            with contextlib.redirect_stdout(io.StringIO()):
                if image_ids is not None:
                    evaluation = _of_images(evaluation, image_ids)
                evaluation.summarize()
            figures = [float(value) for value in evaluation.stats]
        scores[kind] = dict(zip(STATISTICS, figures, strict=False))
    return scores


def _of_images(evaluation: Any, image_ids: Collection[Any]) -> Any:
    """Accumulate the matches of some images only."""
    part = copy.copy(evaluation)
    part.params, part._paramsEval = map(copy.copy, (evaluation.params, evaluation._paramsEval))
    every = list(evaluation.params.imgIds)
    places = [place for place, image_id in enumerate(every) if image_id in image_ids]
    part.params.imgIds = part._paramsEval.imgIds = [every[place] for place in places]
    name = '_evalImgs_cpp' if hasattr(evaluation, '_evalImgs_cpp') else 'evalImgs'
    matches = getattr(evaluation, name)  # range of areas by range, each with all images
    ranges = range(0, len(matches), len(every))
    setattr(part, name, [matches[start + place] for start in ranges for place in places])
    part.accumulate()
    return part


def run_evaluation(
    ground_truth: dict[str, Any], detections: list[dict[str, Any]], kind: str
) -> Any:
    """Match and accumulate detections; the arguments are those of `class_agnostic_ap`.

    Returns:
        An object as `pycocotools.cocoeval.COCOeval`; None without detections.
    """
    if not detections:
        return None
    with contextlib.redirect_stdout(io.StringIO()):
        coco, evaluator, options = _library(ground_truth)
        truth = coco()
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
        keys = ('image_id', 'score', 'bbox' if kind == 'bbox' else 'segmentation')
        category = {'category_id': CATEGORY_ID}
        found = truth.loadRes([{k: d[k] for k in keys} | category for d in detections])
        evaluation = evaluator(truth, found, kind, **options)
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


def _library(ground_truth: dict[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
    """Classes that hold annotations and compare them, and options of the latter."""
    try:
        from faster_coco_eval import COCO, COCOeval_faster

        if any(image['id'] < 0 for image in ground_truth['images']):
            raise ImportError('faster_coco_eval takes no ids below 0')
    except ImportError:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        return COCO, COCOeval, {}
    return COCO, COCOeval_faster, {'separate_eval': True}
