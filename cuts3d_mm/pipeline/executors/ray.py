"""Label shards on the machines of a Ray cluster.

Ray runs a shard again when the process or the machine that had it is lost. Its bytes are the
same wherever it is made, so one that was published twice does no harm.
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
import socket
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cuts3d_mm import __version__
from cuts3d_mm.labels.places import Place
from cuts3d_mm.pipeline.executors.crew import WorkerLost, WorkerTraceback
from cuts3d_mm.pipeline.executors.ray_jobs import (
    Extractor,
    Job,
    finish_shard_here,
    label_shard_here,
)
from cuts3d_mm.pipeline.profile import Report
from cuts3d_mm.pipeline.work_order import Shard, WorkOrder

_RETRIES = 5  # of a shard whose process or machine was lost
_SHARDS_PER_CPU = 2  # handed to the cluster; the second waits, so that no CPU does
_CONNECT_S = 5.0
_POLL_S = 1.0  # between looks at the size of the cluster, which may change


@dataclass(frozen=True)
class RayExecutor:
    """Label shards on a Ray cluster whose machines have this package.

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
        with _connected(self.address) as ray:
            job = pickle.dumps(Job(_absolute(order), os.getcwd(), __version__))
            submit = _submit_in_stages if self.gpus else _submit_whole
            yield from _run(ray, submit(ray, job, self.gpus), shards)


Submit = Callable[[Shard], Any]  # returns a reference to a report


def _submit_whole(ray: Any, job: bytes, gpus: float) -> Submit:
    task = ray.remote(num_cpus=1, max_retries=_RETRIES)(label_shard_here)
    return lambda shard: task.remote(job, shard)


def _submit_in_stages(ray: Any, job: bytes, gpus: float) -> Submit:
    count = int(ray.cluster_resources().get('GPU', 0) / gpus)
    if not count:
        raise ValueError('the Ray cluster must have a GPU for this --device, it has none')
    options = {'num_cpus': 1, 'num_gpus': gpus, 'max_restarts': -1, 'max_task_retries': _RETRIES}
    actors = deque(ray.remote(**options)(Extractor).remote(job) for _ in range(count))
    finish = ray.remote(num_cpus=1, max_retries=_RETRIES)(finish_shard_here)

    def submit(shard: Shard) -> Any:
        actors.rotate()
        return finish.remote(job, shard[0], actors[0].extract.remote(shard[1]))

    return submit


def _run(ray: Any, submit: Submit, shards: Iterable[Shard]) -> Generator[Report, None, None]:
    waiting = deque(shards)
    running: set[Any] = set()
    while waiting or running:
        room = _SHARDS_PER_CPU * max(1, int(ray.cluster_resources().get('CPU', 0)))
        while waiting and len(running) < room:
            running.add(submit(waiting.popleft()))
        done, _ = ray.wait(list(running), num_returns=1, timeout=_POLL_S)
        for reference in done:
            running.remove(reference)
            yield _report_of(ray, reference)


def _report_of(ray: Any, reference: Any) -> Report:
    try:
        report: Report = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        raise cause from WorkerTraceback(f'\n{error}')
    except ray.exceptions.RayError as error:
        raise WorkerLost(
            f'a shard ended its process or machine {_RETRIES + 1} times, most likely out of '
            f'memory: {type(error).__name__}; run the same command again to resume, with a '
            'smaller --batch-size or more memory for each CPU'
        ) from error
    return report


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    """Connect to a cluster; Ctrl-C and SIGTERM stay ours."""
    try:
        import ray
    except ImportError as error:
        raise ImportError("--executor ray needs Ray: pip install 'cuts3d_mm[ray]'") from error
    _require_answer(address)
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        _restore(before)
        yield ray
    except ConnectionError as error:
        raise _unreachable(address) from error
    finally:
        ray.shutdown()
        _restore(before)


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
