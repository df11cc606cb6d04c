"""Label shards on the machines of a Ray cluster.

A shard is run again when the process or the machine that had it is lost. Its bytes are the
same wherever it is made, so one that was published twice does no harm.
"""

from __future__ import annotations

import builtins
import logging
import os
import pickle
import signal
import socket
from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cuts3d_mm import __version__
from cuts3d_mm.files.remote import Place
from cuts3d_mm.pipeline.executors.crew import WorkerLost, WorkerTraceback
from cuts3d_mm.pipeline.executors.ray_crews import RETRIES, Crew, StagedCrew, WholeCrew
from cuts3d_mm.pipeline.executors.ray_jobs import Job
from cuts3d_mm.pipeline.profile import Report
from cuts3d_mm.pipeline.work_order import Shard, WorkOrder
from cuts3d_mm.processes import was_interrupted

_CONNECT_S = 5.0
_POLL_S = 1.0  # between looks at the size of the cluster, which may change


@dataclass(frozen=True)
class RayExecutor:
    """Label shards on a Ray cluster whose machines have this package.

    A connection to Ray that this process has already is used and kept.

    Args:
        address: `auto`, HOST:PORT or ray://HOST:PORT of the cluster.
        gpus: of each process that runs the networks, which then does only that; a CPU does
            what follows. 0: each CPU does all the work on a shard.
    """

    address: str = 'auto'
    gpus: float = 0

    def label(self, order: WorkOrder, shards: tuple[Shard, ...]) -> Generator[Report, None, None]:
        """Label shards and write them, reporting each when it is published.

        Raises:
            ImportError: Ray is not installed.
            ConnectionError: there is no cluster at the address.
            WorkerLost: a shard ended its process each time.
            Exception: what ended a shard, with a `WorkerTraceback` as its cause.
        """
        if not shards:
            return
        with _connected(self.address) as (ray, is_ours):
            job = pickle.dumps(Job(_absolute(order), os.getcwd(), __version__))
            crew = StagedCrew(ray, job, self.gpus) if self.gpus else WholeCrew(ray, job)
            try:
                yield from _run(ray, crew, shards)
            finally:
                # With our connection Ray ends our work. Ray aborts the process that cancels a
                # task just when it is done (ray-project/ray#54260), so nothing is cancelled there.
                if not is_ours:
                    crew.end()


def _run(ray: Any, crew: Crew, shards: Iterable[Shard]) -> Generator[Report, None, None]:
    waiting = deque(shards)
    running: dict[Any, Shard] = {}
    losses: Counter[int] = Counter()
    while waiting or running:
        crew.update()
        while waiting and crew.has_room(len(running)):
            shard = waiting.popleft()
            running[crew.submit(shard)] = shard
        references = [*running, *crew.pending()]
        done, _ = ray.wait(references, num_returns=1, timeout=_POLL_S, fetch_local=False)
        for reference in filter(running.__contains__, done):
            shard = running.pop(reference)
            report = _report_of(ray, reference, losses[shard[0]] < RETRIES)
            crew.close(reference, report is None)
            if report is None:
                losses[shard[0]] += 1
                waiting.appendleft(shard)
            else:
                yield report


def _report_of(ray: Any, reference: Any, may_retry: bool) -> Report | None:
    """Return the report of a shard, or None when it was lost before it was finished."""
    try:
        report: Report = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        if not isinstance(cause, ray.exceptions.RayError):
            raise cause from WorkerTraceback(f'\n{error}')
        if not may_retry:
            raise _lost(cause) from error
        return None  # what the task needs was lost with an actor
    except ray.exceptions.RayError as error:  # Ray ran the task again itself
        raise _lost(error) from error
    return report


def _lost(error: Exception) -> WorkerLost:
    return WorkerLost(
        f'a shard ended its process or machine {RETRIES + 1} times, most likely out of '
        f'memory: {type(error).__name__}; run the same command again to resume, with a '
        'smaller --batch-size or more memory for each CPU'
    )


@contextmanager
def _connected(address: str) -> Iterator[tuple[Any, bool]]:
    """Connect to a cluster, and tell whether it was done here; Ctrl-C and SIGTERM stay ours."""
    try:
        import ray
    except ImportError as error:
        raise ImportError("--executor ray needs Ray: pip install 'cuts3d_mm[ray]'") from error
    _require_answer(address)
    own_print, is_ours = builtins.print, not ray.is_initialized()
    try:
        with _own_connection(ray, address) if is_ours else nullcontext():
            yield ray, is_ours
    finally:
        builtins.print = own_print  # Ray replaces it once it has something to say


@contextmanager
def _own_connection(ray: Any, address: str) -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    try:
        _connect(ray, address)
        _restore(before)
        yield
    finally:
        # An interrupted process ends now, and Ray ends the work of a driver that is gone.
        if not was_interrupted():
            ray.shutdown()
            _restore(before)


def _connect(ray: Any, address: str) -> None:
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except ConnectionError as error:
        raise _unreachable(address) from error


def _restore(handler: Any) -> None:
    if signal.getsignal(signal.SIGTERM) is not handler:  # ours, in the main thread only
        signal.signal(signal.SIGTERM, handler)


def _require_answer(address: str) -> None:
    """Knock at the head; Ray itself would wait for minutes."""
    if address == 'auto':
        address = os.environ.get('RAY_ADDRESS', 'auto')
    host, colon, port = address.removeprefix('ray://').rpartition(':')
    if not colon or not port.isdecimal():
        return
    try:
        socket.create_connection((host, int(port)), _CONNECT_S).close()
    except OSError as error:
        raise _unreachable(address) from error


def _unreachable(address: str) -> ConnectionError:
    return ConnectionError(
        f'--address must be that of a running Ray cluster, none answers at {address}; start one '
        'by `ray start --head`, or name HOST:PORT of its head'
    )


def _absolute(order: WorkOrder) -> WorkOrder:
    def absolute(place: Place) -> Place:
        return place.absolute() if isinstance(place, Path) else place

    return replace(order, root=absolute(order.root), out=absolute(order.out))
