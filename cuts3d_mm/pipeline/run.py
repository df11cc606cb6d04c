"""Label many images into a label store; resumable at any moment.

A shard is a fixed run of consecutive images and the unit of work: it is either whole on
disk or made again. So neither the number of workers nor a kill changes a byte.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import closing
from typing import Protocol

from cuts3d_mm.files.atomic import remove_leftovers
from cuts3d_mm.files.lock import hold_folder
from cuts3d_mm.files.remote import Place, map_files
from cuts3d_mm.images.listing import ImageList
from cuts3d_mm.labels.store import Counts, read_counts, shard_path, shard_paths, write_failures
from cuts3d_mm.pipeline.identity import RunIdentity, given_up_on_failure
from cuts3d_mm.pipeline.plan import Split, images_per_shard, make_plan, stored_shard_size
from cuts3d_mm.pipeline.profile import Report
from cuts3d_mm.pipeline.progress import ProgressReport
from cuts3d_mm.pipeline.work_order import Shard, WorkOrder


class Executor(Protocol):
    """Where the shards of a run are labelled."""

    def label(self, order: WorkOrder, shards: tuple[Shard, ...]) -> Generator[Report, None, None]:
        """Label shards and write them, reporting as images are done.

        A shard does not depend on the others. To be closed is to end at once.
        """


def label_images(
    order: WorkOrder,
    images: ImageList,
    executor: Executor,
    split: Split,
    progress: ProgressReport,
) -> Counts:
    """Label all images of a part of a run that are not labelled yet.

    Args:
        order: what each worker is to do.
        images: of the whole run, before splitting.
        executor: where the shards are labelled.
        split: the part of the run to do.
        progress: is given what is done, as it is done.

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
        return _label_part(order, images, executor, split, progress)


def _label_part(
    order: WorkOrder,
    images: ImageList,
    executor: Executor,
    split: Split,
    progress: ProgressReport,
) -> Counts:
    size = stored_shard_size(order.out) or images_per_shard(len(images.names))
    identity = RunIdentity.of(order.labeller.identity, images, size, order.extraction)
    is_ours_alone = identity.claim(order.out, images) and split.parts == 1
    remove_leftovers(order.out)
    plan = make_plan(order.out, images, size, split)
    earlier = _count(shard_path(order.out, i) for i in plan.done)
    progress.start(earlier.images + sum(len(names) for _, names in plan.left), earlier)
    work = closing(executor.label(order, plan.left))
    with given_up_on_failure(order.out, is_ours_alone), work as reports:
        for report in reports:
            progress.add(report)
    if any(order.out.glob('labels-*.parquet')):  # none: this part is empty and the first to end
        write_failures(order.out)
        identity.record_counts(order.out, vars(_count(shard_paths(order.out))))
    indices = [*plan.done, *(index for index, _ in plan.left)]
    return _count(shard_path(order.out, i) for i in indices)


def _count(shards: Iterable[Place]) -> Counts:
    return sum(map_files(read_counts, list(shards)), Counts())
