"""Score labels and detections of the held-out images."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from cuts3d_mm.evaluation.label_scores import score_labels
from cuts3d_mm.labels.coco import read_coco
from cuts3d_mm.labels.ground_truth import read_ground_truth
from cuts3d_mm.labels.record import ImageRecord
from cuts3d_mm.labels.store import read_store
from cuts3d_mm.learning.folders import PassFolders

METRICS = ('AP', 'AP50', 'AR100')  # of masks


def agreement(folders: PassFolders, detections: Sequence[Path]) -> list[list[str]]:
    """How far detections agree with the pseudo-labels of the held-out images.

    Returns:
        A row per round, in percent; no rows where there is nothing to agree with.
    """
    truth = json.loads(folders.held_out.read_text(encoding='utf-8'))
    if not truth['annotations']:
        return []
    return [_row(_after(number), read_store(one), truth) for number, one in enumerate(detections)]


def scores(
    annotations: Path, folders: PassFolders, detections: Sequence[Path]
) -> tuple[int, list[list[str]]]:
    """Score pseudo-labels and detections on the held-out images that are annotated and labelled.

    Returns:
        Number of those images, and a row for the labels and for each round, in percent; no rows
        without an image.
    """
    names = _labelled(read_coco(folders.held_out)) & _labelled(read_store(detections[0]))
    truth = _of_images(read_ground_truth(annotations, needs_masks=True), names)
    if not truth['images']:
        return 0, []
    rows = [_row('pseudo-labels', read_coco(folders.held_out), truth)]
    rows += [_row(_after(number), read_store(one), truth) for number, one in enumerate(detections)]
    return len(truth['images']), rows


def _of_images(truth: dict[str, Any], names: set[str]) -> dict[str, Any]:
    """Keep the annotations of some images, named in full or by their last part."""
    known = {*names, *(PurePosixPath(name).name for name in names)}
    images = [image for image in truth['images'] if image['file_name'] in known]
    ids = {image['id'] for image in images}
    annotations = [one for one in truth['annotations'] if one['image_id'] in ids]
    return {**truth, 'images': images, 'annotations': annotations}


def _labelled(records: Iterable[ImageRecord]) -> set[str]:
    return {record.name for record in records if record.failure is None}


def _row(name: str, records: Iterable[ImageRecord], truth: dict[str, Any]) -> list[str]:
    found = score_labels(records, truth)['segm']
    return [name, *(f'{100 * found[metric]:.2f}' for metric in METRICS)]


def _after(number: int) -> str:
    return f'detector after round {number}' if number else 'detector after the initial round'
