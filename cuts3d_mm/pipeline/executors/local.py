"""Label shards on this machine, in processes that end with this one."""

from __future__ import annotations

import pickle
import traceback
from collections import deque
from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any

from cuts3d_mm.child_processes import start_child
from cuts3d_mm.pipeline.profile import Report
from cuts3d_mm.pipeline.work_order import Shard, WorkOrder
from cuts3d_mm.pipeline.worker import Worker

_READY = 'ready'  # for a shard; the one before is on disk
_EXIT_WAIT_S = 1.0  # of a process whose connection is closed


class WorkerLost(RuntimeError):
    """A worker process died, most likely because memory ran out."""


class WorkerTraceback(Exception):
    """Where in a worker process an exception came from, as text."""


@dataclass(frozen=True)
class _Failure:
    """An exception on its way to the main process."""

    error: bytes  # pickled
    trace: str


class _FailureReport:
    """Context manager: sends an exception to the main process and ends quietly."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        """Nothing to do."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        if not isinstance(error, Exception):
            return False
        text = ''.join(traceback.format_exception(error))
        with suppress(OSError):  # the main process is gone
            self._connection.send(_Failure(_pickled(error), text))
        return True


@dataclass(frozen=True)
class LocalExecutor:
    """Label shards on this machine.

    Args:
        workers: processes, of one thread each; 0: this process.
    """

    workers: int

    def label(self, order: WorkOrder, shards: tuple[Shard, ...]) -> Generator[Report, None, None]:
        """Label shards and write them, reporting as images are done.

        Raises:
            WorkerLost: a process died.
            Exception: what ended a process, with a `WorkerTraceback` as its cause.
        """
        if self.workers:
            yield from _label_in_processes(order, shards, self.workers)
        elif shards:
            worker = Worker(order)
            for index, names in shards:
                yield from worker.label_shard(index, names)


def _label_in_processes(
    order: WorkOrder, shards: tuple[Shard, ...], workers: int
) -> Generator[Report, None, None]:
    waiting = deque(shards)
    crew: dict[Any, BaseProcess] = {}
    try:
        for _ in range(min(workers, len(shards))):
            process, connection = start_child(_serve, order)
            crew[connection] = process
        busy = set(crew)
        while busy:
            for connection in wait(list(busy)):  # type: ignore[assignment]
                message = _receive(connection, crew[connection])
                if isinstance(message, Report):
                    yield message
                elif waiting:
                    connection.send(waiting.popleft())
                else:
                    busy.remove(connection)
    finally:
        for process in crew.values():
            process.kill()  # a finished one waits for a shard
        for process in crew.values():
            process.join()


def _serve(connection: Connection, order: WorkOrder) -> None:
    """Label the shards that come, in this process."""
    with _FailureReport(connection):
        worker = Worker(order)
        while True:
            connection.send(_READY)
            index, names = connection.recv()
            for report in worker.label_shard(index, names):
                connection.send(report)


def _receive(connection: Connection, process: BaseProcess) -> Report | str:
    """Take a message of a process: a report, or that it is ready for a shard."""
    try:
        message = connection.recv()
    except (EOFError, OSError) as error:
        process.join(_EXIT_WAIT_S)
        raise WorkerLost(
            f'a worker process died with exit code {process.exitcode}, most likely out of '
            'memory; run the same command again to resume, with fewer --workers or a smaller '
            '--batch-size'
        ) from error
    if isinstance(message, _Failure):
        raise pickle.loads(message.error) from WorkerTraceback(f'\n{message.trace}')
    return message


def _pickled(error: Exception) -> bytes:
    """Pickle an exception, or what it says where that cannot be undone."""
    try:
        pickled = pickle.dumps(error)
        pickle.loads(pickled)
    except (TypeError, AttributeError, ValueError, pickle.PickleError):
        return pickle.dumps(RuntimeError(f'{type(error).__name__}: {error}'))
    return pickled
