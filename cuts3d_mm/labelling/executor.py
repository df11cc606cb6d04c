"""Label many images into a label store; resumable at any moment.

A shard is a fixed run of consecutive images and the unit of work: it is either whole on
disk or made again. So neither the number of workers nor a kill changes a byte.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cuts3d_mm.labelling.images import ImageList
from cuts3d_mm.labelling.processes import label_in_processes
from cuts3d_mm.labelling.run_identity import RunIdentity
from cuts3d_mm.labelling.worker import ImageLabeller, Shard, Worker, WorkOrder, build_worker
from cuts3d_mm.labels.atomic import remove_leftovers
from cuts3d_mm.labels.lock import hold_folder
from cuts3d_mm.labels.store import (
    Counts,
    find_damage,
    read_counts,
    shard_path,
    shard_paths,
    write_failures,
)

# A kill costs at most one shard per worker; a store of a million images has 2,000 files.
_SHARDS_AIMED_AT = 2000
_FEWEST_IMAGES, _MOST_IMAGES = 8, 512


class ProgressReport(Protocol):
    """Who wants to know how far a run is."""

    def start(self, total_images: int, done: Counts) -> None:
        """Take note of the size of the run and of what an earlier call has done."""

    def add(self, counts: Counts) -> None:
        """Take note of some more images."""


@dataclass(frozen=True)
class Split:
    """Which part of a run this call does: shards whose index is `part` modulo `parts`."""

    part: int = 0
    parts: int = 1

    @classmethod
    def parse(cls, text: str) -> Split:
        """Read `I/N`.

        Raises:
            ValueError: not two integers with 0 <= I < N.
        """
        part, slash, parts = text.partition('/')
        if not (slash and part.isdecimal() and parts.isdecimal() and int(part) < int(parts)):
            raise ValueError(f'--part must be I/N with 0 <= I < N, such as 0/4, got {text!r}')
        return cls(int(part), int(parts))


@dataclass(frozen=True)
class Plan:
    """What is done and what is left of one part of a run."""

    done: tuple[int, ...]  # indices of shards that are on disk
    left: tuple[Shard, ...]


def images_per_shard(num_images: int) -> int:
    """Size of a shard; depends on the number of images alone."""
    return min(max(math.ceil(num_images / _SHARDS_AIMED_AT), _FEWEST_IMAGES), _MOST_IMAGES)


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
    plan = _make_plan(order, images, size, split)
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


def _make_plan(order: WorkOrder, images: ImageList, size: int, split: Split) -> Plan:
    starts = range(0, len(images.names), size)
    shards = [(i, images.names[start : start + size]) for i, start in enumerate(starts)]
    ours = shards[split.part :: split.parts]
    is_done = [_is_whole(shard_path(order.out, index)) for index, _ in ours]
    return Plan(
        tuple(index for (index, _), done in zip(ours, is_done, strict=True) if done),
        tuple(shard for shard, done in zip(ours, is_done, strict=True) if not done),
    )


def _is_whole(shard: Path) -> bool:
    """Whether a shard is on disk as it was written; says so if it is damaged."""
    if not shard.is_file():
        return False
    damage = find_damage(shard)
    if damage is not None:
        logging.getLogger(__name__).warning('%s; made again now', damage)
    return damage is None


def is_whole(out: Path, num_images: int) -> bool:
    """Tell whether all shards of a run of so many images are there, of all its parts."""
    num_shards = math.ceil(num_images / images_per_shard(num_images))
    return all(shard_path(out, index).is_file() for index in range(num_shards))


def _run_here(
    order: WorkOrder, shards: tuple[Shard, ...], labeller: ImageLabeller | None
) -> Generator[Counts, None, None]:
    if not shards:
        return
    worker = build_worker(order) if labeller is None else Worker(order, labeller)
    for index, names in shards:
        yield from worker.label_shard(index, names)
