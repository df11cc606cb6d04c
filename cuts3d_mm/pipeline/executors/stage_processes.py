"""The processes of a staged run: one per device for the networks, and workers for the rest."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from cuts3d_mm.labellers.generator import Stage
from cuts3d_mm.labels.record import ImageRecord
from cuts3d_mm.labels.store import write_shard
from cuts3d_mm.pipeline.executors.crew import FailureReport
from cuts3d_mm.pipeline.one_thread import use_one_thread
from cuts3d_mm.pipeline.profile import Span, Stopwatch
from cuts3d_mm.pipeline.shared_memory import Parcel, Slots, unpack
from cuts3d_mm.pipeline.stages import Extraction, finish_image
from cuts3d_mm.pipeline.work_order import WorkOrder

_READERS = 4  # threads that decode images for a device


@dataclass(frozen=True)
class Request:
    """A device is ready for another shard."""

    stages: tuple[Stage, ...]
    spans: tuple[Span, ...]


@dataclass(frozen=True)
class Task:
    """An image for the stages that follow the networks."""

    shard: int
    position: int  # in the shard
    image: Parcel
    was_halved: bool  # a batch of the shard did not fit into memory
    device: Connection | None = None  # whose slot the parcel lies in


@dataclass(frozen=True)
class Write:
    """A whole shard for the disk."""

    shard: int
    records: tuple[ImageRecord, ...]
    was_halved: bool


@dataclass(frozen=True)
class Copied:
    """A worker has copied its task; the slot is free."""


@dataclass(frozen=True)
class Done:
    """A worker is free again, at first without having done anything."""

    spans: tuple[Span, ...] = ()
    record: ImageRecord | None = None


def serve_device(connection: Connection, order: WorkOrder, slots: Sequence[str]) -> None:
    """Run the networks on the shards that come, in this process.

    Args:
        connection: to the router.
        order: its device is that of this process.
        slots: names of the shared memory that results lie in until a worker takes them.
    """
    with FailureReport(connection):
        warnings.filterwarnings('ignore', module='PIL')  # files are read in threads
        watch = Stopwatch()
        labeller = order.labeller.build(order.device)
        readers = min(_READERS, order.batch_size)
        extraction = Extraction(labeller, order.root, order.batch_size, watch, readers)
        memory = Slots(slots, connection.recv)
        connection.send(Request(extraction.stages, ()))
        while True:
            index, names = _next_shard(connection, memory)
            position = 0
            for batch in extraction.run(names):
                for image in batch:
                    parcel = memory.pack(image)
                    connection.send(Task(index, position, parcel, extraction.was_halved))
                    position += 1
            connection.send(Request(extraction.stages, watch.take()))


def _next_shard(connection: Connection, memory: Slots) -> Any:
    """Wait for a shard; slots may be given back before it."""
    while True:
        message = connection.recv()
        if not isinstance(message, int):
            return message
        memory.release(message)


def serve_worker(connection: Connection, order: WorkOrder) -> None:
    """Finish the images and write the shards that come, in this process."""
    with FailureReport(connection):
        order.labeller.prepare()
        use_one_thread()
        watch = Stopwatch()
        connection.send(Done())
        while True:
            work, stages = connection.recv()
            if isinstance(work, Write):
                with watch.measure('write', len(work.records)):
                    write_shard(order.out, work.shard, work.records, work.was_halved)
                connection.send(Done(watch.take()))
                continue
            image = unpack(work.image)
            connection.send(Copied())
            record = finish_image(image, stages, watch)
            connection.send(Done(watch.take(), record))
