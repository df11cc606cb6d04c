"""Score label records against annotations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any

from cuts3d_mm.evaluation.class_agnostic_ap import class_agnostic_ap
from cuts3d_mm.labels.coco import coco_annotation
from cuts3d_mm.labels.record import ImageRecord


def score_labels(
    records: Iterable[ImageRecord], ground_truth: dict[str, Any]
) -> dict[str, dict[str, float]]:
    """Score pseudo-labels as if they were detections; see `labels_as_detections`."""
    return class_agnostic_ap(ground_truth, labels_as_detections(records, ground_truth))


def labels_as_detections(
    records: Iterable[ImageRecord], ground_truth: dict[str, Any]
) -> list[dict[str, Any]]:
    """Turn pseudo-labels into COCO results.

    Images are matched by name, or by the last part of it where that is unique. An annotated
    image without labels counts as one without detections.

    Raises:
        ValueError: no labelled image is annotated, or sizes differ.
    """
    images = _images_by_name(ground_truth['images'])
    detections = []
    num_matched = 0
    for record in records:
        image = images.get(record.name) or images.get(PurePosixPath(record.name).name)
        if image is None or record.failure is not None:
            continue
        num_matched += 1
        if (image['height'], image['width']) != record.image_hw:
            raise ValueError(
                f'{record.name} must be (height, width) {(image["height"], image["width"])} '
                f'as annotated, the labels say {record.image_hw}'
            )
        for instance in record.instances:
            annotation = coco_annotation(instance, record.image_hw)
            detections.append(annotation | {'image_id': image['id']})
    if not num_matched:
        raise ValueError('labels and ground truth must share image names, found none in both')
    return detections


def _images_by_name(images: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    by_base = {PurePosixPath(image['file_name']).name: image for image in images}
    seen = Counter(PurePosixPath(image['file_name']).name for image in images)
    unique = {base: image for base, image in by_base.items() if seen[base] == 1}
    return unique | {image['file_name']: image for image in images}
