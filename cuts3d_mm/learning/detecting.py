"""Let the detector of each round label the held-out images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cuts3d_mm.images.listing import ImageList
from cuts3d_mm.labellers.detector import labeller_config
from cuts3d_mm.learning.folders import PassFolders
from cuts3d_mm.learning.pass_images import watched_names
from cuts3d_mm.learning.schedule import Schedule
from cuts3d_mm.learning.training import weights_after
from cuts3d_mm.pipeline.labelling import label

_MOST_PER_IMAGE = 100  # as COCO scores them


def detect_after_each_round(
    config: Any,
    schedule: Schedule,
    images: ImageList,
    folders: PassFolders,
    workers: int | None,
) -> list[Path]:
    """Label the watched images by the detectors at the end of all rounds.

    Args:
        config: of the training.
        schedule: of the training, which has ended.
        images: of the pass.
        folders: of the pass.
        workers: processes; None: all cores.

    Returns:
        A label store for each round, the initial one first.
    """
    watched = ImageList(images.root, tuple(sorted(watched_names(folders))))
    stores = []
    for number in range(len(schedule.round_steps) + 1):
        weights = weights_after(folders, number)
        model = labeller_config(
            config, str(weights), max_per_image=_MOST_PER_IMAGE, confidence_source='none'
        )
        store = folders.detections(number)
        task = f'detecting after round {number}'
        label(model, config.get('custom_imports'), watched, store, workers, task)
        stores.append(store)
    return stores
