"""Label many images into a label store; resumable at any moment.

A shard is a fixed run of consecutive images and the unit of work: it is either whole on
disk or made again. So neither the number of workers nor a kill changes a byte.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing

from cuts3d_mm.images.listing import ImageList
from cuts3d_mm.labels.atomic import remove_leftovers
from cuts3d_mm.labels.lock import hold_folder
from cuts3d_mm.labels.store import (
    Counts,
    read_counts,
    shard_path,
    shard_paths,
    write_failures,
)
from cuts3d_mm.pipeline.executors.local import label_in_processes
from cuts3d_mm.pipeline.identity import RunIdentity
from cuts3d_mm.pipeline.plan import Split, images_per_shard, make_plan
from cuts3d_mm.pipeline.progress import ProgressReport
from cuts3d_mm.pipeline.worker import ImageLabeller, Shard, Worker, WorkOrder, build_worker


def label_images(
    order: WorkOrder,
    images: ImageList,
    workers: int,
    split: Split,
    progress: ProgressReport,
    labeller: ImageLabeller | None = None,
) -> Counts:
    """Label all images of a part of a run that are not labelled yet.

    Args:
        order: what each worker is to do.
        images: of the whole run, before splitting.
        workers: processes; 0 works in this one.
        split: the part of the run to do.
        progress: is given the counts of images as they are done.
        labeller: what labels the images in this process, which `order.model` describes; None
            builds it from there. Needs `workers` = 0.

    Returns:
        Counts of this part of the run, earlier calls included.

    Raises:
        RunMismatch: `order.out` holds labels of another run.
        FolderInUse: another process labels the same part, or all of it.
        WorkerLost: a worker process died.
        OSError: `order.out` cannot be written.
    """
    order.out.mkdir(parents=True, exist_ok=True)
    with hold_folder(order.out, split.part, split.parts):
        return _label_part(order, images, workers, split, progress, labeller)


def _label_part(
    order: WorkOrder,
    images: ImageList,
    workers: int,
    split: Split,
    progress: ProgressReport,
    labeller: ImageLabeller | None,
) -> Counts:
    size = images_per_shard(len(images.names))
    identity = RunIdentity.of(order.model, images, size)
    identity.claim(order.out, images)
    remove_leftovers(order.out)
    plan = make_plan(order, images, size, split)
    earlier = sum((read_counts(shard_path(order.out, i)) for i in plan.done), Counts())
    progress.start(earlier.images + sum(len(names) for _, names in plan.left), earlier)
    if workers:
        reports = label_in_processes(order, plan.left, workers)
    else:
        reports = _run_here(order, plan.left, labeller)
    with closing(reports):
        for counts in reports:
            progress.add(counts)
    if any(order.out.glob('labels-*.parquet')):  # none: this part is empty and the first to end
        write_failures(order.out)
        total = sum((read_counts(path) for path in shard_paths(order.out)), Counts())
        identity.record_counts(order.out, vars(total))
    indices = [*plan.done, *(index for index, _ in plan.left)]
    return sum((read_counts(shard_path(order.out, i)) for i in indices), Counts())


def _run_here(
    order: WorkOrder, shards: tuple[Shard, ...], labeller: ImageLabeller | None
) -> Generator[Counts, None, None]:
    if not shards:
        return
    worker = build_worker(order) if labeller is None else Worker(order, labeller)
    for index, names in shards:
        yield from worker.label_shard(index, names)
