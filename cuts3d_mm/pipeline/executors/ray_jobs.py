"""The work that a process of a Ray cluster does on a shard."""

from __future__ import annotations

import os
import pickle
from dataclasses import dataclass
from functools import cache
from typing import Any

from cuts3d_mm import __version__
from cuts3d_mm.labels.store import Counts, write_shard
from cuts3d_mm.pipeline.one_thread import use_one_thread
from cuts3d_mm.pipeline.profile import Report, Stopwatch
from cuts3d_mm.pipeline.stages import ExtractedImage, Extraction, finish_image
from cuts3d_mm.pipeline.work_order import Shard, WorkOrder
from cuts3d_mm.pipeline.worker import Worker, count_images


@dataclass(frozen=True)
class Job:
    """What each process of the cluster must know."""

    order: WorkOrder
    folder: str  # that paths in the config are relative to
    version: str  # of this package


@cache
def _open_job(pickled: bytes) -> Job:
    """Take up the job in this process of the cluster."""
    job: Job = pickle.loads(pickled)
    if job.version != __version__:
        raise ValueError(
            f'all machines of the cluster must have cuts3d_mm {job.version}, one has {__version__}'
        )
    if os.path.isdir(job.folder):
        os.chdir(job.folder)
    job.order.labeller.prepare()
    use_one_thread()
    return job


@cache
def _worker_of(pickled: bytes) -> Worker:
    return Worker(_open_job(pickled).order)


def label_shard_here(pickled: bytes, shard: Shard) -> Report:
    """Do all the work on a shard, and publish it."""
    reports = list(_worker_of(pickled).label_shard(*shard))
    spans = tuple(span for report in reports for span in report.spans)
    return Report(sum((report.counts for report in reports), Counts()), spans)


@dataclass(frozen=True)
class Extracted:
    """A shard when the networks are done with it."""

    images: list[ExtractedImage]
    stages: Any
    was_halved: bool
    spans: Any


@cache
def _extraction_of(pickled: bytes) -> tuple[Extraction, Stopwatch]:
    order, watch = _open_job(pickled).order, Stopwatch()
    labeller = order.labeller.build(order.device)
    return Extraction(labeller, order.root, order.batch_size, watch), watch


class Extractor:
    """Runs the networks on one GPU.

    It builds them for its first shard: what is raised there ends that shard as it was raised,
    while Ray would report only that the process died.
    """

    def __init__(self, pickled: bytes) -> None:
        self._pickled = pickled

    def is_ready(self) -> bool:
        """Tell that the process has started."""
        return True

    def extract(self, names: tuple[str, ...]) -> Extracted:
        """Read the images of a shard and run the networks on them."""
        extraction, watch = _extraction_of(self._pickled)
        images = [image for batch in extraction.run(names) for image in batch]
        return Extracted(images, extraction.stages, extraction.was_halved, watch.take())


def finish_shard_here(pickled: bytes, index: int, extracted: Extracted) -> Report:
    """Do what follows the networks on a shard, and publish it."""
    order, watch = _open_job(pickled).order, Stopwatch()
    records = [finish_image(image, extracted.stages, watch) for image in extracted.images]
    with watch.measure('write', len(records)):
        write_shard(order.out, index, records, extracted.was_halved)
    return Report(count_images(records), (*extracted.spans, *watch.take()))
