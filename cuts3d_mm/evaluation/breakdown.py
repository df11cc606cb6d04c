"""Where a score comes from: crowded and empty images, and precision against recall."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cuts3d_mm.evaluation.class_agnostic_ap import class_agnostic_ap, run_evaluation

# Annotated instances of an image, first and last of a group.
INSTANCE_GROUPS = ((1, 1), (2, 3), (4, 7), (8, 15), (16, None))
IOU_THRESHOLDS = (0.5, 0.75, 0.9)
_RECALL_STEPS = 101


def scores_by_count(
    ground_truth: dict[str, Any], detections: list[dict[str, Any]]
) -> dict[str, tuple[int, dict[str, dict[str, float]]]]:
    """Score images with few and with many annotated instances apart.

    Returns:
        Name of a group -> number of its images, and their scores as `class_agnostic_ap` gives
        them; groups without an image are left out.
    """
    counts: dict[Any, int] = dict.fromkeys((i['id'] for i in ground_truth['images']), 0)
    for annotation in ground_truth['annotations']:
        if not annotation.get('iscrowd'):
            counts[annotation['image_id']] += 1
    groups = {}
    for first, last in INSTANCE_GROUPS:
        chosen = {k for k, n in counts.items() if n >= first and (last is None or n <= last)}
        if chosen:
            name = f'{first}' if first == last else f'{first}-{last or ""}'
            part = _of_images(ground_truth, chosen)
            found = [one for one in detections if one['image_id'] in chosen]
            groups[name] = len(chosen), class_agnostic_ap(part, found)
    return groups


def precision_recall(
    ground_truth: dict[str, Any], detections: list[dict[str, Any]], kind: str = 'segm'
) -> dict[float, NDArray[np.float64]]:
    """Compute interpolated precision as pycocotools does.

    Returns:
        IoU threshold -> (101,) precision at recall 0, 0.01, ..., 1.
    """
    if not detections:
        return {iou: np.zeros(_RECALL_STEPS) for iou in IOU_THRESHOLDS}
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = run_evaluation(ground_truth, detections, kind)
    steps = list(np.round(evaluation.params.iouThrs, 2))
    precision = evaluation.eval['precision'][:, :, 0, 0, -1]
    return {iou: np.clip(precision[steps.index(iou)], 0, 1) for iou in IOU_THRESHOLDS}


def _of_images(ground_truth: dict[str, Any], chosen: set[Any]) -> dict[str, Any]:
    return {
        'images': [image for image in ground_truth['images'] if image['id'] in chosen],
        'annotations': [a for a in ground_truth['annotations'] if a['image_id'] in chosen],
    }
