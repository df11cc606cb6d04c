"""Run a labelling run on a Ray cluster."""

from __future__ import annotations

import builtins
import logging
import os
import pickle
import signal
import socket
import time
from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from cuts3d_mm import __version__
from cuts3d_mm.files.remote import Place
from cuts3d_mm.labels.store import Counts, write_shard
from cuts3d_mm.processes import heap_variables, was_interrupted

from .local import WorkerTraceback
from .progress import Report, Stopwatch
from .run import WorkerLost
from .work import (
    ExtractedImage,
    Extraction,
    Shard,
    Worker,
    WorkOrder,
    count_images,
    extraction_on_device,
    finish_image,
    use_one_thread,
)

_CONNECT_S = 5.0
_POLL_S = 1.0  # between looks at the size of the cluster, which may change
RETRIES = 5  # of a shard whose process or machine was lost
_SHARDS_PER_CPU = 2  # handed to the cluster; the second waits, so that no CPU does
_SETTLE_S = 1.0  # for tasks that are as good as done
_SHARDS_PER_ACTOR = 2  # the second waits, so that no GPU does


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
            _resources_at.cache_clear()  # of another cluster
            job = pickle.dumps(Job(_absolute(order), os.getcwd(), __version__))
            crew = StagedCrew(ray, job, self.gpus) if self.gpus else Crew(ray, job)
            running: dict[Any, Shard] = {}
            try:
                yield from _run(ray, crew, shards, running)
            finally:
                # With our connection Ray ends our work. Ray aborts the process that cancels a
                # task just when it is done (ray-project/ray#54260), so nothing is cancelled there.
                if not is_ours:
                    crew.end(list(running))


def _run(
    ray: Any, crew: Crew, shards: Iterable[Shard], running: dict[Any, Shard]
) -> Generator[Report, None, None]:
    """Hand shards to a crew; `running` holds those that it has, by the references to reports."""
    waiting = deque(shards)
    losses: Counter[int] = Counter()
    has_cpus = True
    while waiting or running:
        crew.update()
        if has_cpus and not _resources(ray).get('CPU', 0):
            logging.getLogger(__name__).warning(
                'the Ray cluster has no CPU; this run waits until a machine with some joins: '
                '`ray start --address HOST:PORT --num-cpus N` there'
            )
            has_cpus = False
        while waiting and crew.has_room(len(running)):
            shard = waiting.popleft()
            running[crew.submit(shard)] = shard
        done, left = ray.wait(
            [*running, *crew.pending()], num_returns=1, timeout=_POLL_S, fetch_local=False
        )
        if done:  # all that are there: a look at thousands takes milliseconds
            done += _wait(ray, left)[0]
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
    kind = type(error).__name__
    if 'Node' in kind or 'Raylet' in kind:
        return WorkerLost(
            f'a machine of the Ray cluster was lost, {RETRIES + 1} times: {kind}; see `ray '
            'status`, then run the same command again to resume'
        )
    return WorkerLost(
        f'a shard ended its process {RETRIES + 1} times, most likely out of memory: {kind}; run '
        'the same command again to resume, with a smaller --batch-size or more memory for each CPU'
    )


@contextmanager
def _connected(address: str) -> Iterator[tuple[Any, bool]]:
    """Connect to a cluster, and tell whether it was done here; Ctrl-C and SIGTERM stay ours."""
    _offer_token()
    try:
        import ray
    except ImportError as error:
        raise ImportError("--executor ray needs Ray: pip install 'cuts3d_mm[ray]'") from error
    _require_answer(address)
    own_print, is_ours = builtins.print, not ray.is_initialized()
    handler = signal.getsignal(signal.SIGTERM)
    try:
        if is_ours:
            _connect(ray, address)
            _restore(handler)
        yield ray, is_ours
    finally:
        # An interrupted process ends now, and Ray ends the work of a driver that is gone.
        if is_ours and not was_interrupted():
            ray.shutdown()
            _restore(handler)
        builtins.print = own_print  # Ray replaces it once it has something to say


def _connect(ray: Any, address: str) -> None:
    try:
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level=logging.ERROR,
            # No code of a current folder.
            runtime_env={'env_vars': {'PYTHONSAFEPATH': '1', **heap_variables()}},
        )
    except ConnectionError as error:
        raise ConnectionError(
            f'the Ray cluster at {address} must let this machine join, it does not: if it asks '
            'for a token, bring it as ~/.ray/auth_token or RAY_AUTH_TOKEN; else start one by `ray '
            'start --head`, with the same versions of Ray and Python'
        ) from error


def _offer_token() -> None:
    """Let Ray send the token that is there.

    A head asks for it as soon as the file exists; a program sends it where a variable says so.
    """
    path = os.environ.get('RAY_AUTH_TOKEN_PATH') or os.path.expanduser('~/.ray/auth_token')
    if os.environ.get('RAY_AUTH_TOKEN') or os.path.isfile(path):
        os.environ.setdefault('RAY_AUTH_MODE', 'token')


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
        raise ConnectionError(
            f'--address must be that of a running Ray cluster, none answers at {address}; start '
            'one by `ray start --head`, or name HOST:PORT of its head'
        ) from error


def _absolute(order: WorkOrder) -> WorkOrder:
    def absolute(place: Place) -> Place:
        return place.absolute() if isinstance(place, Path) else place

    return replace(order, root=absolute(order.root), out=absolute(order.out))


def _wait(ray: Any, references: list[Any], timeout: float = 0) -> tuple[list[Any], list[Any]]:
    """Divide references into those that are there and the others."""
    count = len(references)
    found: tuple[list[Any], list[Any]] = ([], [])
    if references:
        found = ray.wait(references, num_returns=count, timeout=timeout, fetch_local=False)
    return found


class Crew:
    """What shards are handed to: CPUs, each of which does all the work on a shard."""

    def __init__(self, ray: Any, job: bytes) -> None:
        self._ray, self._job = ray, job
        self._task = ray.remote(num_cpus=1, max_retries=RETRIES)(label_shard_here)

    def update(self) -> None:
        """Take in the processes that came, and what they did; Ray replaces lost ones itself."""

    def has_room(self, running: int) -> bool:
        """Tell whether one more shard than those running may be submitted."""
        return running < _SHARDS_PER_CPU * _cpus(self._ray)

    def submit(self, shard: Shard) -> Any:
        """Start the work on a shard, and return a reference to its report."""
        return self._task.remote(self._job, shard)

    def pending(self) -> list[Any]:
        """List the references, besides those to reports, that make room when they are there."""
        return []

    def close(self, reference: Any, was_lost: bool) -> None:
        """Forget a shard that is done or lost."""

    def end(self, running: list[Any]) -> None:
        """End the work on shards that are not done, on a connection that stays.

        A task that is just done is left: Ray may abort the process that cancels it.
        """
        for reference in _wait(self._ray, running, _SETTLE_S)[1]:
            self._ray.cancel(reference, force=True)


@dataclass(eq=False)
class _Member:
    """An actor, and the shards that it has not extracted yet."""

    actor: Any
    extracting: set[Any] = field(default_factory=set)


class StagedCrew(Crew):
    """Actors with a GPU each, which run the networks, and CPUs, which do what follows.

    An actor that loses a shard is dismissed. Another takes its place when its GPU is still there.
    """

    def __init__(self, ray: Any, job: bytes, gpus: float) -> None:
        super().__init__(ray, job)
        self._gpus = gpus
        # The actors take no CPU, or they could leave none for what follows them.
        self._extractor = ray.remote(num_cpus=0, num_gpus=gpus)(Extractor)
        self._task = ray.remote(num_cpus=1, max_retries=RETRIES)(finish_shard_here)
        self._starting: dict[Any, Any] = {}
        self._members: list[_Member] = []
        self._member_of: dict[Any, _Member] = {}
        self._failed_starts = 0  # since the last good one
        if not self._places():
            raise ValueError('the Ray cluster must have a GPU for this --device, it has none')

    def update(self) -> None:
        """Start an actor for each free GPU, and see which are ready and which extracted."""
        while len(self._starting) + len(self._members) < max(1, self._places()):
            actor = self._extractor.remote(self._job)
            self._starting[actor.is_ready.remote()] = actor
        for reference in _wait(self._ray, list(self._starting))[0]:
            self._take_in(reference, self._starting.pop(reference))
        for member in self._members:
            member.extracting -= set(_wait(self._ray, list(member.extracting))[0])

    def has_room(self, running: int) -> bool:
        """Tell whether an actor needs a shard; the store holds few that no CPU works on."""
        limit = _cpus(self._ray) + _SHARDS_PER_ACTOR * len(self._members)
        needs_a_shard = (len(one.extracting) < _SHARDS_PER_ACTOR for one in self._members)
        return running < limit and any(needs_a_shard)

    def submit(self, shard: Shard) -> Any:
        """Hand a shard to the actor with the least to do."""
        member = min(self._members, key=lambda member: len(member.extracting))
        extracted = member.actor.extract.remote(shard[1])
        member.extracting.add(extracted)
        reference = self._task.remote(self._job, shard[0], extracted)
        self._member_of[reference] = member
        return reference

    def pending(self) -> list[Any]:
        """List what the actors start or extract."""
        extracting = (reference for member in self._members for reference in member.extracting)
        return [*self._starting, *extracting]

    def close(self, reference: Any, was_lost: bool) -> None:
        """Forget a shard; dismiss the actor that lost it."""
        member = self._member_of.pop(reference)
        if was_lost and member in self._members:
            self._members.remove(member)

    def end(self, running: list[Any]) -> None:
        """End the actors, and the processes of the tasks."""
        super().end(running)
        for actor in [*self._starting.values(), *(member.actor for member in self._members)]:
            self._ray.kill(actor)

    def _places(self) -> int:
        return int(_resources(self._ray).get('GPU', 0) / self._gpus)

    def _take_in(self, reference: Any, actor: Any) -> None:
        try:
            self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            self._failed_starts += 1
            if self._failed_starts > RETRIES:
                raise WorkerLost(
                    f'a process for the networks did not start, {self._failed_starts} times in a '
                    'row; all machines of the cluster must have the same cuts3d_mm and enough '
                    f'memory; run the same command again to resume: {error}'
                ) from error
        else:
            self._failed_starts = 0
            self._members.append(_Member(actor))


def _cpus(ray: Any) -> int:
    return max(1, int(_resources(ray).get('CPU', 0)))


def _resources(ray: Any) -> dict[str, float]:
    """CPUs and GPUs of the cluster, asked for once a second: the answer takes a millisecond."""
    return _resources_at(ray, int(time.monotonic() / _POLL_S))


@lru_cache(maxsize=1)
def _resources_at(ray: Any, second: int) -> dict[str, float]:
    found: dict[str, float] = ray.cluster_resources()
    return found


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
    reports = list(_worker_of(pickled).label([shard]))
    spans = tuple(span for report in reports for span in report.spans)
    return Report(sum((report.counts for report in reports), Counts()), spans)


@dataclass(frozen=True)
class Extracted:
    """A shard when the networks are done with it."""

    images: list[ExtractedImage]
    stages: Any
    spans: Any


@cache
def _extraction_of(pickled: bytes) -> tuple[Extraction, Stopwatch]:
    order, watch = _open_job(pickled).order, Stopwatch()
    labeller = order.build_labeller()
    return extraction_on_device(labeller, order, watch), watch


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
        found = {position: image for _, position, image in extraction.run([(0, names)])}
        images = [found[position] for position in range(len(names))]
        return Extracted(images, extraction.stages, watch.take())


def finish_shard_here(pickled: bytes, index: int, extracted: Extracted) -> Report:
    """Do what follows the networks on a shard, and publish it."""
    order, watch = _open_job(pickled).order, Stopwatch()
    records = [finish_image(image, extracted.stages, watch) for image in extracted.images]
    with watch.measure('write', len(records)):
        was_halved = any(image.was_halved for image in extracted.images)
        write_shard(order.out, index, records, was_halved, order.mark)
    return Report(count_images(records), (*extracted.spans, *watch.take()))
