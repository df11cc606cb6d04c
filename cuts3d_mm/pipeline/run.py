"""Label many images into a label store; resumable at any moment.

A shard is a fixed run of consecutive images and the unit of work: it is either whole on
disk or made again. So neither the number of workers nor a kill changes a byte.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from cuts3d_mm.files.atomic import remove_leftovers, write_whole
from cuts3d_mm.files.lock import hold_folder
from cuts3d_mm.files.remote import Place, existing, map_files
from cuts3d_mm.files.stored_run import RunMismatch
from cuts3d_mm.images.listing import ImageList
from cuts3d_mm.labels.store import (
    Counts,
    RunMark,
    ShardSize,
    digest_of_names,
    find_damage,
    ran_out_of_memory,
    read_counts,
    read_shard,
    shard_path,
    shard_paths,
    was_batch_halved,
    write_failures,
    write_shard,
)

from .identity import (
    RunIdentity,
    StoredRun,
    find_changes,
    find_run,
    given_up_on_failure,
    read_image_stats,
    stat_images,
    write_image_stats,
)
from .progress import ProgressReport, Report
from .work import Shard, WorkOrder

# A kill costs at most one shard per worker. Small shards leave no worker of a cluster without
# work at the end, and cost time and files of their own: benchmarks/cluster_simulation.py. So only
# the last tenth of the images has small ones: a million images have 21,000 files, whatever the
# number of workers.
_SHARDS_AIMED_AT, _MOST_SHARDS = 2000, 70_000  # before small ones, which are up to 5 in 10 more
_FEWEST_IMAGES, _ENOUGH_IMAGES = 8, 64
_LAST_SHARE = 10  # of ten parts the last has smaller shards, and of its ten parts the last again
_SMALLER = 2  # sizes, each a quarter of the one before

# A run that grows keeps its shards and their size if it has more than this share of the images.
_WORTH_KEEPING = 0.01
_MOST_LOSSES = 3  # killed processes until a run ends
_logger = logging.getLogger(__name__)


class WorkerLost(RuntimeError):
    """A worker process died, most likely because memory ran out."""


class WorkerKilled(WorkerLost):
    """A signal ended a worker process of this machine; a new one may do its work."""

    def __str__(self) -> str:
        """Say the reason and the remedy, its two arguments."""
        return '; '.join(self.args)


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

    A run with the first of these images, as `--limit` gives them, grows.

    Args:
        images: of the whole run, before splitting.

    Returns:
        Counts of this part of the run, earlier calls included.

    Raises:
        RunMismatch: `order.out` holds labels of another run.
        FolderInUse: another process labels the same part, or all of it.
        WorkerLost: a worker process died, or three were killed.
        OSError: `order.out` cannot be written.
    """
    order.out.mkdir(parents=True, exist_ok=True)
    with hold_folder(order.out, split.part, split.parts):
        fresh_size = images_per_shard(len(images.names), order.batch_size)
        _grow(order, images, fresh_size)
        begun = find_run(order.out)
        size = begun.identity.images_per_shard if begun is not None else fresh_size
        identity = RunIdentity.of(order.labeller.identity, images, size, order.extraction)
        stored, is_fresh = identity.claim(order.out, images)
        order, is_ours_alone = replace(order, mark=stored.mark), is_fresh and split.parts == 1
        remove_leftovers(order.out)
        done, left = _divide_shards(order, images, size, split)
        earlier = _count(shard_path(order.out, index) for index in done)
        progress.start(earlier.images + sum(len(names) for _, names in left), earlier)
        with given_up_on_failure(order.out, is_ours_alone):
            for losses in range(1, _MOST_LOSSES + 1):
                reported = earlier
                try:
                    with closing(executor.label(order, left)) as reports:
                        for report in reports:
                            progress.add(report)
                            reported += report.counts
                    break
                except WorkerKilled as loss:
                    if losses == _MOST_LOSSES:
                        raise
                    _logger.warning(f'{loss.args[0]}; what it had begun is made again now')
                done, left = _divide_shards(order, images, size, split)
                earlier = _count(shard_path(order.out, index) for index in done)
                progress.add(Report(earlier - reported))
        if any(
            order.out.glob('labels-*.parquet')
        ):  # none: this part is empty, and the first to end
            write_failures(order.out)
            counts = vars(_count(shard_paths(order.out)))
            write_whole(order.out / 'run.json', stored.encoded(counts))
        return _count(shard_path(order.out, index) for index in (*done, *(i for i, _ in left)))


def _grow(order: WorkOrder, images: ImageList, fresh_size: ShardSize) -> None:
    """Let a run of the same labeller with the first of these images become a run with all.

    Shards stay where they hold the same images in the larger run, so that the bytes are those of
    a run of this size of shards that had all images from the start; others are made again. An
    interruption costs no more than shards that are made again. Anything else is not touched:
    `RunIdentity.claim` says why it cannot go on.
    """
    folder = order.out
    stored = find_run(folder)
    if stored is None or stored.mark is None or not stored.is_whole:
        return
    count, num_images = stored.identity.num_images, len(images.names)
    first = ImageList(images.root, images.names[:count])
    if count >= num_images or stored.identity.images != digest_of_names(first.names):
        return
    is_worth_it = count > _WORTH_KEEPING * num_images
    size = stored.identity.images_per_shard if is_worth_it else fresh_size
    identity = RunIdentity.of(order.labeller.identity, images, size, order.extraction)
    is_same = identity.model == stored.identity.model
    if not is_same or identity.extraction != stored.identity.extraction:
        return
    before, now = read_image_stats(folder / 'images.arrow'), stat_images(images)
    if before is None or find_changes(folder, first, before.first(count), now.first(count)):
        return
    known = set(first.names)
    kept = {
        index: names
        for index, names in _shards_of(images, size)
        if names[-1] in known
        and shard_path(folder, index).is_file()
        and not find_damage(shard_path(folder, index), names, stored.mark)
    }
    write_image_stats(folder / 'images.arrow', now)
    write_whole(folder / 'run.json', StoredRun(identity, stored.format, identity.mark).encoded())
    for path in folder.glob('labels-*.parquet'):
        index = int(path.name.removeprefix('labels-').removesuffix('.parquet'))
        if index in kept:
            records = list(read_shard(path))
            write_shard(folder, index, records, was_batch_halved(path), identity.mark)
        elif isinstance(path, Path):
            path.unlink()
    num_kept = sum(map(len, kept.values()))
    _logger.warning(
        f'{folder} grows from {count} to {num_images} images; {num_kept} keep their labels, '
        f'{count - num_kept} are labelled again'
    )


def _shards_of(images: ImageList, size: ShardSize) -> list[Shard]:
    """Divide the images of a run into shards, by index."""
    starts = shard_starts(len(images.names), size)
    ends = [*starts[1:], len(images.names)]
    return [
        (index, images.names[start:end])
        for index, (start, end) in enumerate(zip(starts, ends, strict=True))
    ]


def _count(shards: Iterable[Place]) -> Counts:
    return sum(map_files(read_counts, list(shards)), Counts())


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


def images_per_shard(num_images: int, batch_size: int = 1) -> ShardSize:
    """Size of a shard of a new store, at least a batch, which never crosses a shard."""
    fewest = max(_FEWEST_IMAGES, batch_size)
    size = min(math.ceil(num_images / _SHARDS_AIMED_AT), _ENOUGH_IMAGES)
    sizes = [max(size, fewest, math.ceil(num_images / _MOST_SHARDS))]
    for _ in range(_SMALLER):
        smaller = max(fewest, sizes[-1] // 4)
        if smaller < sizes[-1]:
            sizes.append(smaller)
    return sizes if len(sizes) > 1 else sizes[0]


def shard_starts(num_images: int, size: ShardSize) -> list[int]:
    """Number of the first image of each shard.

    Args:
        size: images of a shard; a list: each further size is for the last tenth of the images
            that the one before would have.
    """
    starts, begin, sizes = list[int](), 0, [size] if isinstance(size, int) else size
    for number, one in enumerate(sizes, 1):
        left = num_images - begin
        if number < len(sizes):
            left = (left - left // _LAST_SHARE) // one * one
        starts += range(begin, begin + left, one)
        begin += left
    return starts


def _divide_shards(
    order: WorkOrder, images: ImageList, size: ShardSize, split: Split
) -> tuple[tuple[int, ...], tuple[Shard, ...]]:
    """Find the shards of this part that are on disk, and those that must be made.

    Raises:
        RunMismatch: the store holds more shards than the run has.
    """
    out, shards = order.out, _shards_of(images, size)
    known = {shard_path(out, index).name for index, _ in shards}
    strays = sorted(path.name for path in out.glob('labels-*.parquet') if path.name not in known)
    if strays:
        raise RunMismatch(
            f'{out} must hold {len(shards)} shards, as its run.json says, it also holds '
            f'{strays[0]}; choose another OUT'
        )
    ours = shards[split.part :: split.parts]
    is_done = _are_intact({shard_path(out, index): names for index, names in ours}, order.mark)
    return (
        tuple(index for (index, _), done in zip(ours, is_done, strict=True) if done),
        tuple(shard for shard, done in zip(ours, is_done, strict=True) if not done),
    )


def _are_intact(shards: Mapping[Place, Sequence[str]], mark: RunMark | None) -> list[bool]:
    """Whether each shard is there with the images of its place; says which must be made again."""
    there = existing(list(shards))
    found = map_files(lambda shard: _find_fault(shard, shards[shard], mark), there)
    faults = dict(zip(there, found, strict=True))
    for fault in filter(None, faults.values()):
        _logger.warning(fault)
    return [shard in faults and faults[shard] is None for shard in shards]


def _find_fault(shard: Place, names: Sequence[str], mark: RunMark | None) -> str | None:
    """Say why a shard must be made again; None if it need not."""
    damage = find_damage(shard, names, mark)
    if damage is not None:
        return f'{damage}; made again now'
    if ran_out_of_memory(shard):
        return f'{shard} must be made again: memory ran out for an image of it'
    return None


def is_whole(out: Path, num_images: int) -> bool:
    """Tell whether all shards of a run with `num_images` images are there, of all its parts."""
    begun = find_run(out)
    size = images_per_shard(num_images) if begun is None else begun.identity.images_per_shard
    num_shards = len(shard_starts(num_images, size))
    return all(shard_path(out, index).is_file() for index in range(num_shards))
