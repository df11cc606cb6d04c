"""Label shards on this machine, in processes that end with this one."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from dataclasses import dataclass
from multiprocessing.connection import Connection

from cuts3d_mm.pipeline.executors.crew import FailureReport, crew_of_processes
from cuts3d_mm.pipeline.executors.staged import label_in_stages
from cuts3d_mm.pipeline.profile import Report
from cuts3d_mm.pipeline.work_order import Shard, WorkOrder
from cuts3d_mm.pipeline.worker import Worker

_READY = 'ready'  # for a shard; the one before is on disk


@dataclass(frozen=True)
class LocalExecutor:
    """Label shards on this machine.

    Args:
        workers: processes of one thread each, besides those of `devices`; 0: this process.
        devices: each gets a process that runs the networks there, while the workers do what
            follows. Empty: the networks run in every worker, on the device of the order.
    """

    workers: int
    devices: tuple[str, ...] = ()

    def label(self, order: WorkOrder, shards: tuple[Shard, ...]) -> Generator[Report, None, None]:
        """Label shards and write them, reporting as images are done.

        Raises:
            WorkerLost: a process died.
            Exception: what ended a process, with a `WorkerTraceback` as its cause.
        """
        if not shards:
            return
        if self.workers and self.devices:
            yield from label_in_stages(order, shards, self.workers, self.devices)
        elif self.workers:
            yield from _label_in_processes(order, shards, self.workers)
        else:
            worker = Worker(order)
            for index, names in shards:
                yield from worker.label_shard(index, names)


def _label_in_processes(
    order: WorkOrder, shards: tuple[Shard, ...], workers: int
) -> Generator[Report, None, None]:
    waiting = deque(shards)
    with crew_of_processes() as crew:
        busy = [crew.start(_serve, order) for _ in range(min(workers, len(shards)))]
        while busy:
            for connection, message in crew.receive(busy):
                if isinstance(message, Report):
                    yield message
                elif waiting:
                    connection.send(waiting.popleft())
                else:
                    busy.remove(connection)


def _serve(connection: Connection, order: WorkOrder) -> None:
    """Label the shards that come, in this process."""
    with FailureReport(connection):
        worker = Worker(order)
        while True:
            connection.send(_READY)
            index, names = connection.recv()
            for report in worker.label_shard(index, names):
                connection.send(report)
