"""Score labels and detections of the held-out images."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from cuts3d_mm.evaluation.label_scores import score_labels
from cuts3d_mm.labels.coco import read_coco
from cuts3d_mm.labels.coco_json import read_ground_truth
from cuts3d_mm.labels.record import ImageRecord
from cuts3d_mm.labels.store import read_store
from cuts3d_mm.learning.class_labels import name_as, names_in, of_images
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
    annotations: Path, names: Sequence[str], folders: PassFolders, detections: Sequence[Path]
) -> tuple[int, list[list[str]]]:
    """Score pseudo-labels and detections on the held-out images that are annotated and labelled.

    Args:
        annotations: COCO JSON.
        names: of all images of the run, held out or not.
        folders: of the pass.
        detections: a store per round.

    Returns:
        Number of those images, and a row for the labels and for each round, in percent; no rows
        without an image.
    """
    labelled = _labelled(read_coco(folders.held_out)) & _labelled(read_store(detections[0]))
    known = name_as(read_ground_truth(annotations, needs_masks=True), names, annotations)
    truth = of_images(known, labelled)
    if not truth['images']:
        return 0, []
    found = {'pseudo-labels': read_coco(folders.held_out)}
    found |= {_after(number): read_store(one) for number, one in enumerate(detections)}
    scored = set(names_in(truth))
    rows = [
        _row(name, (record for record in records if record.name in scored), truth)
        for name, records in found.items()
    ]
    return len(truth['images']), rows


def _labelled(records: Iterable[ImageRecord]) -> set[str]:
    return {record.name for record in records if record.failure is None}


def _row(name: str, records: Iterable[ImageRecord], truth: dict[str, Any]) -> list[str]:
    found = score_labels(records, truth)['segm']
    return [name, *(f'{100 * found[metric]:.2f}' for metric in METRICS)]


def _after(number: int) -> str:
    return f'detector after round {number}' if number else 'detector after the initial round'
