"""Run the networks in one process per device, and what follows in others.

This process hands shards to the devices, and what they make of each image to a free worker.
It holds the records of a shard until all of its images are done, and lets a worker write it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from typing import Any

from cuts3d_mm.labellers.generator import Stage
from cuts3d_mm.labels.record import ImageRecord
from cuts3d_mm.pipeline.executors.crew import Crew, crew_of_processes
from cuts3d_mm.pipeline.executors.stage_processes import (
    Copied,
    Done,
    Request,
    Task,
    Write,
    serve_device,
    serve_worker,
)
from cuts3d_mm.pipeline.profile import Report
from cuts3d_mm.pipeline.shared_memory import removed_at_end, segment_names
from cuts3d_mm.pipeline.work_order import Shard, WorkOrder
from cuts3d_mm.pipeline.worker import count_images


@dataclass
class _OpenShard:
    """A shard that is not whole yet."""

    records: list[ImageRecord | None]
    missing: int
    was_halved: bool = False  # a batch did not fit into memory


def label_in_stages(
    order: WorkOrder, shards: tuple[Shard, ...], workers: int, devices: Sequence[str]
) -> Generator[Report, None, None]:
    """Label shards and write them, reporting as images are done.

    Raises:
        WorkerLost: a process died.
        Exception: what ended a process, with a `WorkerTraceback` as its cause.
    """
    used = devices[: len(shards)]
    # While a batch is on a device, the results of the one before keep the workers busy.
    slots = [segment_names(order.batch_size + -(-workers // len(used))) for _ in used]
    with removed_at_end(slots), crew_of_processes() as crew:
        sources = [
            crew.start(serve_device, replace(order, device=device), names)
            for device, names in zip(used, slots, strict=True)
        ]
        free = [crew.start(serve_worker, order) for _ in range(workers)]
        yield from _Router(crew, shards, sources, free).run()


@dataclass
class _Router:
    """Leads shards to devices and images to workers."""

    crew: Crew
    shards: tuple[Shard, ...]
    sources: list[Connection]
    workers: list[Connection]
    waiting: deque[Shard] = field(init=False)
    open: dict[int, _OpenShard] = field(default_factory=dict)
    tasks: deque[Task] = field(default_factory=deque)
    writes: deque[Write] = field(default_factory=deque)
    free: deque[Connection] = field(default_factory=deque)
    busy: dict[Connection, Task | Write] = field(default_factory=dict)
    stages: tuple[Stage, ...] = ()

    def __post_init__(self) -> None:
        self.waiting = deque(self.shards)

    def run(self) -> Generator[Report, None, None]:
        """Route messages until all shards are on disk."""
        unwritten = len(self.shards)
        while unwritten:
            for connection, message in self.crew.receive([*self.sources, *self.workers]):
                if isinstance(message, Request):
                    self._send_shard(connection, message)
                    yield Report(spans=message.spans)
                elif isinstance(message, Task):
                    self.tasks.append(replace(message, device=connection))
                elif isinstance(message, Copied):
                    self._release_slot(connection)
                else:
                    unwritten -= isinstance(self.busy.get(connection), Write)
                    yield self._take_back(connection, message)
            self._hand_out()

    def _send_shard(self, source: Connection, request: Request) -> None:
        self.stages = request.stages
        if not self.waiting:
            return
        index, names = self.waiting.popleft()
        self.open[index] = _OpenShard([None] * len(names), len(names))
        _send(source, (index, names))

    def _release_slot(self, worker: Connection) -> None:
        task = self.busy[worker]
        if isinstance(task, Task) and task.device is not None:
            _send(task.device, task.image.slot)

    def _take_back(self, worker: Connection, done: Done) -> Report:
        """Free a worker, and take note of the image that it has done."""
        task = self.busy.pop(worker, None)
        self.free.append(worker)
        if not isinstance(task, Task) or done.record is None:
            return Report(spans=done.spans)
        shard = self.open[task.shard]
        shard.records[task.position] = done.record
        shard.missing -= 1
        shard.was_halved |= task.was_halved
        if not shard.missing:
            records = tuple(record for record in shard.records if record is not None)
            self.writes.append(Write(task.shard, records, shard.was_halved))
            del self.open[task.shard]
        return Report(count_images([done.record]), done.spans)

    def _hand_out(self) -> None:
        while self.free and (self.writes or self.tasks):
            worker = self.free.popleft()
            work = self.writes.popleft() if self.writes else self.tasks.popleft()
            self.busy[worker] = work
            without = replace(work, device=None) if isinstance(work, Task) else work
            _send(worker, (without, self.stages))


def _send(connection: Connection, message: Any) -> None:
    """Send to a process; if it is gone, what it has said last tells why."""
    with suppress(OSError):
        connection.send(message)
