"""Score detections by class-agnostic average precision, also as a metric of MMEngine."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

from mmdet.evaluation import CocoMetric
from mmengine.fileio import get_local_path
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from cuts3d_mm.datasets.pseudo_labels import ClassAgnosticCOCO
from cuts3d_mm.labels.coco_json import CATEGORIES, CATEGORY_ID
from cuts3d_mm.registry import METRICS

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


@METRICS.register_module()
class ClassAgnosticCocoMetric(CocoMetric):
    """Scores of pycocotools, with all categories of the annotations taken as one class.

    AP, AP50, AP75 and AP by size, AR with 1, 10 and 100 detections of an image, unrounded. At
    most 100 detections count, as in CutLER and detectron2. Crowd regions are ignored as COCO
    does. LVIS annotates only some objects of an image; with one class, detections of all other
    objects count as wrong, as in the papers that report LVIS.

    Args:
        ann_file (str): COCO JSON.
        metric (str | list[str]): `bbox`, `segm` or both. Defaults to `bbox`.

    All other arguments go to `mmdet.CocoMetric`.
    """

    def __init__(self, ann_file: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(None, *args, **kwargs)
        unknown = set(self.metrics) - set(KINDS)
        if unknown:
            raise ValueError(f'metric must be one or both of {KINDS}, got {sorted(unknown)}')
        with get_local_path(ann_file, backend_args=self.backend_args) as local_path:
            self._coco_api = ClassAgnosticCOCO(local_path, needs_masks='segm' in self.metrics)

    def compute_metrics(
        self, results: list[tuple[dict[str, Any], dict[str, Any]]]
    ) -> dict[str, float]:
        """Score the collected detections."""
        if self.format_only:
            return super().compute_metrics(results)
        detections = [one for _, result in results for one in _as_coco(result)]
        scores = class_agnostic_ap(self._coco_api.dataset, detections, self.metrics)
        return {
            f'{kind}_{STATISTICS[name]}': value
            for kind, figures in scores.items()
            for name, value in figures.items()
        }


def _as_coco(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Turn the detections of an image into COCO results."""
    boxes_xywh = result['bboxes'].astype(float)
    boxes_xywh[:, 2:] -= boxes_xywh[:, :2]
    detections = [
        {'image_id': result['img_id'], 'bbox': box, 'score': score}
        for box, score in zip(boxes_xywh.tolist(), result['scores'].tolist(), strict=True)
    ]
    for detection, mask in zip(detections, result.get('masks', ()), strict=False):
        detection['segmentation'] = mask
    return detections


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
