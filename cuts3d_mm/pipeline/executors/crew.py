"""Start the processes of a run, hear from them, and end them."""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any

from cuts3d_mm.processes import start_child

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


class FailureReport:
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


@dataclass
class Crew:
    """Processes of this run, by the connection to each."""

    processes: dict[Connection, BaseProcess] = field(default_factory=dict)

    def start(self, serve: Callable[..., None], *payload: Any) -> Connection:
        """Start `serve(connection, *payload)` in a process of its own."""
        process, connection = start_child(serve, *payload)
        self.processes[connection] = process
        return connection

    def receive(self, connections: list[Connection]) -> Iterator[tuple[Connection, Any]]:
        """Wait for messages, one at most from each connection.

        Raises:
            WorkerLost: a process died.
            Exception: what ended a process, with a `WorkerTraceback` as its cause.
        """
        for connection in wait(connections):
            if isinstance(connection, Connection):  # as all of them are
                yield connection, self._message_of(connection)

    def _message_of(self, connection: Connection) -> Any:
        process = self.processes[connection]
        try:
            message = connection.recv()
        except (EOFError, OSError) as error:
            process.join(_EXIT_WAIT_S)
            raise WorkerLost(_describe_death(process.exitcode)) from error
        if isinstance(message, _Failure):
            raise pickle.loads(message.error) from WorkerTraceback(f'\n{message.trace}')
        return message


@contextmanager
def crew_of_processes() -> Iterator[Crew]:
    """Kill the processes at the end, finished or not: their work is done or does not count."""
    crew = Crew()
    try:
        yield crew
    finally:
        for process in crew.processes.values():
            process.kill()
        for process in crew.processes.values():
            process.join()


def _describe_death(exit_code: int | None) -> str:
    died = f'a worker process died with exit code {exit_code}'
    if exit_code is not None and exit_code > 0:  # not by a signal: it has printed its error
        return f'{died}; its error is above. Run the same command again to resume'
    return (
        f'{died}, most likely out of memory; run the same command again to resume, with fewer '
        '--workers or a smaller --batch-size'
    )


def _pickled(error: Exception) -> bytes:
    """Pickle an exception, or what it says where that cannot be undone."""
    try:
        pickled = pickle.dumps(error)
        pickle.loads(pickled)
    except (TypeError, AttributeError, ValueError, pickle.PickleError):
        return pickle.dumps(RuntimeError(f'{type(error).__name__}: {error}'))
    return pickled
