"""Two sets of labels and the truth in, the images on which they differ most out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from cuts3d_mm.labels.segmentation import mask_code

_SAME = 0.01  # a smaller change of the quality counts as none


@dataclass(frozen=True)
class ImageChange:
    """How well the objects of one image are found by both."""

    image_id: Any
    file_name: str
    before: float  # quality of the first, see `image_quality`
    after: float  # quality of the second

    @property
    def gain(self) -> float:
        """Positive where the second is better."""
        return self.after - self.before


def image_quality(truth: list[dict[str, Any]], found: list[dict[str, Any]]) -> float:
    """Mean over the annotated objects of the best mask IoU of any label, in [0, 1].

    Args:
        truth: run-length codes of the objects, at least one.
        found: run-length codes of the labels.
    """
    if not found:
        return 0.0
    overlap = coco_mask.iou(found, truth, [0] * len(truth))  # (labels, objects)
    return float(np.asarray(overlap).max(axis=0).mean())


def compare(
    ground_truth: dict[str, Any],
    before: Iterable[dict[str, Any]],
    after: Iterable[dict[str, Any]],
) -> list[ImageChange]:
    """Compare two sets of detections image by image; images without an object are left out.

    Returns:
        The changes, the greatest loss first.
    """
    sizes = {i['id']: (i['height'], i['width']) for i in ground_truth['images']}
    truth: dict[Any, list[dict[str, Any]]] = {}
    for annotation in ground_truth['annotations']:
        if not annotation.get('iscrowd'):
            image_id = annotation['image_id']
            code = mask_code(annotation['segmentation'], sizes[image_id])
            truth.setdefault(image_id, []).append(code)
    sides = [_codes_by_image(side) for side in (before, after)]
    changes = []
    for image in ground_truth['images']:
        image_id = image['id']
        if image_id in truth:
            quality = [image_quality(truth[image_id], side.get(image_id, [])) for side in sides]
            changes.append(ImageChange(image_id, image['file_name'], *quality))
    return sorted(changes, key=lambda change: (change.gain, change.file_name))


def count_changes(changes: list[ImageChange]) -> dict[str, int]:
    """Count the images that got better, worse, or stayed."""
    better = sum(change.gain > _SAME for change in changes)
    worse = sum(change.gain < -_SAME for change in changes)
    return {'better': better, 'worse': worse, 'same': len(changes) - better - worse}


def _codes_by_image(detections: Iterable[dict[str, Any]]) -> dict[Any, list[dict[str, Any]]]:
    codes: dict[Any, list[dict[str, Any]]] = {}
    for one in detections:
        codes.setdefault(one['image_id'], []).append(one['segmentation'])
    return codes
