"""Label the images of a run, by a generator or by a detector; resumes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cuts3d_mm.images.listing import ImageList
from cuts3d_mm.labellers.registry import check_labeller, fetch_weights
from cuts3d_mm.labels.store import Counts

from .devices import (
    choose_batch_size,
    default_workers,
    parse_devices,
    resolve_devices,
)
from .local import LocalExecutor
from .progress import ProgressLine
from .run import Split, label_images
from .work import ConfiguredLabeller, WorkOrder


def label(
    model: dict[str, Any],
    custom_imports: dict[str, Any] | None,
    images: ImageList,
    store: Path,
    workers: int | None,
    task: str,
) -> Counts:
    """Label images into a store on all GPUs and cores, as `cuts3d generate` does.

    Args:
        model: config of what labels.
        custom_imports: modules that register its parts, as in configs.
        images: to label, at least one.
        store: to write, or to go on with.
        workers: processes; None: all cores.
        task: what is going on, for the line of progress.
    """
    check_labeller(model)
    fetch_weights(model)
    labeller = ConfiguredLabeller(model, custom_imports)
    labeller.import_parts()
    devices = resolve_devices(parse_devices('auto'))
    size = choose_batch_size(store, devices[0])
    order = WorkOrder(labeller, images.root, store, size, devices[0])
    workers = default_workers(devices) if workers is None else workers
    executor = LocalExecutor(
        min(workers, len(images.names)), () if devices == ('cpu',) else devices
    )
    with ProgressLine(task) as progress:
        return label_images(order, images, executor, Split(), progress)
