"""The processes of a Ray cluster that shards are handed to, and how many of them have room.

A crew is brought up to date before each round, since machines come and go.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from cuts3d_mm.pipeline.executors.crew import WorkerLost
from cuts3d_mm.pipeline.executors.ray_jobs import (
    Extractor,
    finish_shard_here,
    label_shard_here,
)
from cuts3d_mm.pipeline.work_order import Shard

RETRIES = 5  # of a shard whose process or machine was lost
_SHARDS_PER_CPU = 2  # handed to the cluster; the second waits, so that no CPU does
_SETTLE_S = 1.0  # for tasks that are as good as done
_SHARDS_PER_ACTOR = 2  # the second waits, so that no GPU does


class Crew(Protocol):
    """What shards are handed to."""

    def update(self) -> None:
        """Take in the processes that came, and what they did."""

    def has_room(self, running: int) -> bool:
        """Tell whether one more shard than those running may be submitted."""

    def submit(self, shard: Shard) -> Any:
        """Start the work on a shard, and return a reference to its report."""

    def pending(self) -> list[Any]:
        """List the references, besides those to reports, that make room when they are there."""

    def close(self, reference: Any, was_lost: bool) -> None:
        """Forget a shard that is done or lost."""

    def end(self) -> None:
        """End the work on shards that are not done, on a connection that stays."""


class WholeCrew:
    """CPUs, each of which does all the work on a shard."""

    def __init__(self, ray: Any, job: bytes) -> None:
        self._ray, self._job = ray, job
        self._running: set[Any] = set()
        self._task = ray.remote(num_cpus=1, max_retries=RETRIES)(label_shard_here)

    def update(self) -> None:
        """Do nothing: Ray replaces lost processes itself."""

    def has_room(self, running: int) -> bool:
        """Tell whether the CPUs have less than they need to be busy."""
        return running < _SHARDS_PER_CPU * _cpus(self._ray)

    def submit(self, shard: Shard) -> Any:
        """Start a task."""
        reference = self._task.remote(self._job, shard)
        self._running.add(reference)
        return reference

    def pending(self) -> list[Any]:
        """List nothing: only a report makes room."""
        return []

    def close(self, reference: Any, was_lost: bool) -> None:
        """Forget a task."""
        self._running.remove(reference)

    def end(self) -> None:
        """End the processes of the tasks."""
        _cancel(self._ray, list(self._running))


@dataclass(eq=False)
class _Member:
    """An actor, and the shards that it has not extracted yet."""

    actor: Any
    extracting: set[Any] = field(default_factory=set)


class StagedCrew:
    """Actors with a GPU each, which run the networks, and CPUs, which do what follows.

    An actor that loses a shard is dismissed. Another takes its place when its GPU is still there.
    """

    def __init__(self, ray: Any, job: bytes, gpus: float) -> None:
        self._ray, self._job, self._gpus = ray, job, gpus
        # The actors take no CPU, or they could leave none for what follows them.
        self._extractor = ray.remote(num_cpus=0, num_gpus=gpus)(Extractor)
        self._finish = ray.remote(num_cpus=1, max_retries=RETRIES)(finish_shard_here)
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
        done = self._done_of(list(self._starting))
        for reference in done:
            self._take_in(reference, self._starting.pop(reference))
        for member in self._members:
            member.extracting -= self._done_of(list(member.extracting))

    def has_room(self, running: int) -> bool:
        """Tell whether an actor needs a shard; the store holds few that no CPU works on."""
        limit = _cpus(self._ray) + _SHARDS_PER_ACTOR * len(self._members)
        return running < limit and any(map(_needs_a_shard, self._members))

    def submit(self, shard: Shard) -> Any:
        """Hand a shard to the actor with the least to do."""
        member = min(self._members, key=lambda member: len(member.extracting))
        extracted = member.actor.extract.remote(shard[1])
        member.extracting.add(extracted)
        reference = self._finish.remote(self._job, shard[0], extracted)
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

    def end(self) -> None:
        """End the actors, and the processes of the tasks."""
        _cancel(self._ray, list(self._member_of))
        for actor in [*self._starting.values(), *(member.actor for member in self._members)]:
            self._ray.kill(actor)

    def _places(self) -> int:
        return int(self._ray.cluster_resources().get('GPU', 0) / self._gpus)

    def _done_of(self, references: list[Any]) -> set[Any]:
        if not references:
            return set()
        count = len(references)
        done, _ = self._ray.wait(references, num_returns=count, timeout=0, fetch_local=False)
        return set(done)

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


def _needs_a_shard(member: _Member) -> bool:
    return len(member.extracting) < _SHARDS_PER_ACTOR


def _cancel(ray: Any, references: list[Any]) -> None:
    """End tasks, but not one that is just done: then Ray may abort this process."""
    if not references:
        return
    count = len(references)
    _, left = ray.wait(references, num_returns=count, timeout=_SETTLE_S, fetch_local=False)
    for reference in left:
        ray.cancel(reference, force=True)


def _cpus(ray: Any) -> int:
    return max(1, int(ray.cluster_resources().get('CPU', 0)))
