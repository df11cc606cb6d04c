"""Run a labelling run on this machine: in this process, in workers, or in workers next to GPUs."""

from __future__ import annotations

import pickle
import signal
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from cuts3d_mm.processes import start_child

from .progress import Report, Stopwatch
from .run import WorkerKilled, WorkerLost
from .work import (
    ConfiguredLabeller,
    LabellerSource,
    Shard,
    Task,
    Worker,
    WorkOrder,
    use_one_thread,
)

_READY = 'ready'  # for a shard
_DONE = 'done'  # all shards of a process are on disk
_EXIT_WAIT_S = 1.0  # of a process whose connection is closed
_PROTOCOL = 5  # of pickle; arrays are copied once


@dataclass(frozen=True)
class LocalExecutor:
    """Label shards on this machine.

    Args:
        workers: processes of one thread each, besides those of `devices`; 0: this process.
        devices: each gets a process that runs the networks there, and its share of the workers,
            which do what follows. Empty: the networks run in every worker, on the device of the
            order.
        is_beside: the networks run in this process, which alone has them, while the workers do
            what follows. So labels a detector in training.
    """

    workers: int
    devices: tuple[str, ...] = ()
    is_beside: bool = False

    def label(self, order: WorkOrder, shards: tuple[Shard, ...]) -> Generator[Report, None, None]:
        """Label shards and write them, reporting as images are done.

        Raises:
            WorkerLost: a process died.
            Exception: what ended a process, with a `WorkerTraceback` as its cause.
        """
        if not shards:
            return
        if not self.workers:
            yield from Worker(order).label(shards)
        elif self.is_beside:
            with Crew() as crew:
                yield from Worker(order, Helpers(crew, order.labeller, self.workers)).label(shards)
        else:
            yield from self._label_in_processes(order, shards)

    def _label_in_processes(
        self, order: WorkOrder, shards: tuple[Shard, ...]
    ) -> Generator[Report, None, None]:
        orders = [order] * self.workers
        if self.devices:
            orders = [replace(order, device=device) for device in self.devices]
        helpers = -(-self.workers // len(self.devices)) if self.devices else 0
        waiting = deque(shards)
        with Crew() as crew:
            busy = [crew.start(serve, one, helpers) for one in orders[: len(shards)]]
            while busy:
                ready = wait(busy)
                for connection in [one for one in busy if one in ready]:
                    message = crew.receive(connection)
                    if isinstance(message, Report):
                        yield message
                    elif message == _READY:
                        crew.send(connection, waiting.popleft() if waiting else None)
                    else:
                        busy.remove(connection)


def serve(connection: Connection, order: WorkOrder, num_helpers: int) -> None:
    """Label the shards that come, in this process.

    Args:
        order: its device is that of this process.
        num_helpers: processes that do what follows the networks; 0: this one.
    """
    with _failures_sent(connection), Crew() as crew:
        helpers = Helpers(crew, order.labeller, num_helpers) if num_helpers else None
        worker = Worker(order, helpers)
        torch = sys.modules.get('torch')
        if torch is not None and order.device.startswith('cuda:') and helpers is not None:
            torch.cuda.set_device(torch.device(order.device))  # or a part lands on the first GPU
        for report in worker.label(_shards_of(connection)):
            connection.send(report)
        connection.send(_DONE)


def _shards_of(connection: Connection) -> Iterator[Shard]:
    """Ask for one shard after the other until none is left."""
    while True:
        connection.send(_READY)
        shard: Shard | None = connection.recv()
        if shard is None:
            return
        yield shard


class Helpers:
    """Processes that do tasks without a network, each led by a thread of this process.

    Args:
        crew: gets the processes, and ends them.
        labeller: has the modules that register parts; its networks are not built.
    """

    def __init__(self, crew: Crew, labeller: LabellerSource, count: int) -> None:
        self.count, self._crew = count, crew
        light = ConfiguredLabeller({}, getattr(labeller, 'custom_imports', None))
        connections = [crew.start(serve_helper, light) for _ in range(count)]
        self._of_thread = own = threading.local()

        def take_connection() -> None:  # no method: threads end when nobody has their pool
            own.connection = connections.pop()

        self._threads = ThreadPoolExecutor(count, initializer=take_connection)

    def submit(self, task: Task) -> Future[Any]:
        """Have a task done: a future of its value and spans, or of what it raised."""
        return self._threads.submit(self._run, task)

    def _run(self, task: Task) -> Any:
        self._crew.send(self._of_thread.connection, task)
        return self._crew.receive(self._of_thread.connection)


def serve_helper(connection: Connection, labeller: ConfiguredLabeller) -> None:
    """Do the tasks that come, in this process."""
    with _failures_sent(connection):
        labeller.prepare()
        use_one_thread()
        watch = Stopwatch()
        while True:
            task: Task = pickle.loads(connection.recv_bytes())
            connection.send((task(watch), watch.take()))


class WorkerTraceback(Exception):
    """Where in a worker process an exception came from, as text."""


@dataclass(frozen=True)
class _Failure:
    """An exception on its way to the main process."""

    error: bytes  # pickled
    trace: str


@contextmanager
def _failures_sent(connection: Connection) -> Iterator[None]:
    """Send an exception to the process that started this one, and end quietly."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  the main process raises it
        text = ''.join(traceback.format_exception(error))
        with suppress(OSError):  # the main process is gone
            connection.send(_Failure(_pickled(error), text))


@dataclass
class Crew:
    """Processes of this run, by the connection to each.

    They are killed at the end, finished or not: their work is done or does not count.
    """

    processes: dict[Connection, BaseProcess] = field(default_factory=dict)

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes.values():
            process.kill()
        for process in self.processes.values():
            process.join()

    def start(self, serve: Callable[..., None], *payload: Any) -> Connection:
        """Start `serve(connection, *payload)` in a process of its own."""
        process, connection = start_child(serve, *payload)
        self.processes[connection] = process
        return connection

    def send(self, connection: Connection, message: Any) -> None:
        """Send to a process; if it is gone, what it has said last tells why."""
        with suppress(OSError):
            connection.send_bytes(pickle.dumps(message, _PROTOCOL))

    def receive(self, connection: Any) -> Any:
        """Wait for a message of a process.

        Raises:
            WorkerLost: the process died.
            Exception: what ended the process, with a `WorkerTraceback` as its cause.
        """
        process = self.processes[connection]
        try:
            message = connection.recv()
        except (EOFError, OSError) as error:
            process.join(_EXIT_WAIT_S)
            raise _describe_death(process.exitcode) from error
        if isinstance(message, _Failure):
            raise pickle.loads(message.error) from WorkerTraceback(f'\n{message.trace}')
        return message


def _describe_death(exit_code: int | None) -> WorkerLost:
    if exit_code is not None and exit_code > 0:  # not by a signal: it has printed its error
        return WorkerLost(
            f'a worker process died with exit code {exit_code}; its error is above. Run the same '
            'command again to resume'
        )
    try:
        name = signal.Signals(-(exit_code or 0)).name
    except ValueError:
        name = f'exit code {exit_code}'
    reason = f'a worker process died of {name}'
    if name == 'SIGKILL':
        return WorkerKilled(
            f'{reason}, most likely out of memory',
            'run the same command again to resume, with fewer --workers or a smaller --batch-size',
        )
    return WorkerKilled(
        reason,
        'run the same command again to resume; if it dies again, an image may crash a library: '
        '--workers 0 shows which, --exclude leaves it out',
    )


def _pickled(error: Exception) -> bytes:
    """Pickle an exception, or what it says where that cannot be undone."""
    try:
        pickled = pickle.dumps(error)
        pickle.loads(pickled)
    except Exception:  # noqa: BLE001  of the code of a class that we do not know
        said = RuntimeError(f'{type(error).__name__}: {error}')
        for note in getattr(error, '__notes__', ()):
            said.add_note(note)
        return pickle.dumps(said)
    return pickled
