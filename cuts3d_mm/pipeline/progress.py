"""Show progress, and profile the stages of a run."""

from __future__ import annotations

import json
import math
import os
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Protocol, TextIO

import numpy as np
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from cuts3d_mm.arrays import Double
from cuts3d_mm.labels.store import Counts

_LOG_EVERY_S = 10.0  # where the output is no terminal
_LEAST_SLIP_S, _SLIP_SHARE = 60.0, 0.1  # share of the time from the first estimate to the end


class ProgressReport(Protocol):
    """Receives the progress of a run."""

    def start(self, total_images: int, done: Counts) -> None:
        """Take note of the size of the run and of what an earlier call has done."""

    def add(self, report: Report) -> None:
        """Take note of what is done since the last call."""


class RemainingTime:
    """Says how much time is left, and when the expected end slips."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._end = math.inf

    def describe(self, left_s: float) -> str:
        """Write the measured time that is left; an end much later than was said is named."""
        end, text = self._clock() + left_s, f'{format_duration(left_s)} left'
        slip_s = end - self._end
        if slip_s <= max(_LEAST_SLIP_S, _SLIP_SHARE * (end - self._began)):
            self._end = min(self._end, end)
            return text
        self._end = end
        return f'{text}, the end has slipped by {format_duration(slip_s)}'


def format_duration(seconds: float) -> str:
    """Write a duration in its largest unit: 45 s, 12 min, 3.5 h, 2.1 days."""
    for unit, length, digits in (('days', 86400.0, 1), ('h', 3600.0, 1), ('min', 60.0, 0)):
        if seconds >= 1.5 * length:
            return f'{seconds / length:.{digits}f} {unit}'
    return f'{seconds:.0f} s'


class ProgressLine:
    """A bar on a terminal, a line every ten seconds in a log.

    `task` says what is going on, and on which images, such as 'labelling val2017'.
    """

    def __init__(self, task: str) -> None:
        self._name = task
        self._total = 0
        self._counts = Counts()
        self._resumed = 0
        self._warm: tuple[float, int] | None = None  # time and images of the first line
        self._totals = StageTotals()
        self._remaining = RemainingTime()
        self._started = self._logged = time.monotonic()
        self._bar = Progress(
            TextColumn('{task.description}', markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TaskProgressColumn(),
            TextColumn('{task.fields[facts]}'),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        self._task = self._bar.add_task(task, total=None, facts='loading')

    def __enter__(self) -> ProgressLine:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def start(self, total_images: int, done: Counts) -> None:
        """Count what an earlier call did, but leave it out of the rate."""
        self._total, self._resumed = total_images, done.images
        self._bar.update(self._task, total=total_images)
        if done.images:
            self.add(Report(done))
        if self._bar.disable and done.images < total_images:
            self._log('loading')  # until the first image is done

    def add(self, report: Report) -> None:
        """Count some more images."""
        self._counts += report.counts
        self._totals.add(report.spans)
        now = time.monotonic()
        self._bar.update(self._task, completed=self._counts.images, facts=self._facts())
        if self._bar.disable and now - self._logged >= _LOG_EVERY_S:
            self._logged = now
            self._log(f'{self._facts()}{self._left()}')
            self._warm = self._warm or (now, self._counts.images)

    def _log(self, what: str) -> None:
        done = f'{self._counts.images}/{self._total} images'
        print(f'{self._name}: {done}, {what}', file=sys.stderr, flush=True)

    def _facts(self) -> str:
        found = f', {self._counts.instances} instances' if self._counts.instances else ''
        stage = self._totals.limiting_stage()
        limit = f', limited by {stage}' if stage else ''
        return f'{self._rate():.2f} images/s{found}, {self._counts.failures} failures{limit}'

    def _rate(self) -> float:
        """Images per second of this call; what is loaded for the first ones does not count."""
        began, done = self._warm or (self._started, self._resumed)
        return (self._counts.images - done) / max(time.monotonic() - began, 1e-9)

    def _left(self) -> str:
        rate, left = self._rate(), self._total - self._counts.images
        is_known = self._warm is not None and rate > 0
        return f', {self._remaining.describe(left / rate)}' if is_known else ''


@dataclass(frozen=True)
class Span:
    """One stretch of work of one stage."""

    stage: str
    start_s: float  # of `time.monotonic`, which the processes of a machine share
    seconds: float
    cpu_seconds: float  # of its thread
    images: int
    num_bytes: int  # of what the stage hands on
    process: int
    thread: int


@dataclass(frozen=True)
class Report:
    """What an executor has done since its last report."""

    counts: Counts = Counts()
    spans: tuple[Span, ...] = ()


class Work:
    """What a stage may add while it is measured."""

    def __init__(self) -> None:
        self.num_bytes = 0

    def hands_on(self, value: Any) -> None:
        """Count the bytes of a result."""
        self.num_bytes += size_of(value)


class Stopwatch:
    """Collects the spans of one process."""

    def __init__(self) -> None:
        self._spans: list[Span] = []

    @contextmanager
    def measure(self, stage: str, images: int = 1) -> Iterator[Work]:
        """Measure a stretch of work, whether it succeeds or not."""
        work, start_s, cpu_s = Work(), time.monotonic(), time.thread_time()
        try:
            yield work
        finally:
            seconds, cpu = time.monotonic() - start_s, time.thread_time() - cpu_s
            where = os.getpid(), threading.get_native_id()
            self._spans.append(Span(stage, start_s, seconds, cpu, images, work.num_bytes, *where))

    def take(self) -> tuple[Span, ...]:
        """Hand out the spans since the last call."""
        count = len(self._spans)  # another thread may add one meanwhile
        spans = tuple(self._spans[:count])
        del self._spans[:count]
        return spans


def size_of(value: Any) -> int:
    """Bytes of the arrays, byte strings and texts that a value is made of."""
    if isinstance(value, np.ndarray):
        return int(value.nbytes)
    if isinstance(value, (bytes, str)):
        return len(value)
    if isinstance(value, (list, tuple)):
        return sum(size_of(item) for item in value)
    if is_dataclass(value):
        return sum(size_of(getattr(value, field.name)) for field in fields(value))
    return 0


@contextmanager
def profiled(progress: ProgressReport, trace: Path | None) -> Iterator[ProgressReport]:
    """Watch the progress of a run; print a table of its stages when it ends.

    Args:
        trace: JSON file to write, which chrome://tracing and ui.perfetto.dev show; None: no
            profile.
    """
    if trace is None:
        yield progress
        return
    with trace.open('w', encoding='utf-8') as file:
        profile = _Profile(progress, file)
        try:
            yield profile
        finally:
            file.write('[]\n' if profile.is_empty else '\n]\n')
    Console(stderr=True).print(profile.totals.table())


class _Profile:
    """Hands reports on, adds them up, and writes their spans as a trace."""

    def __init__(self, progress: ProgressReport, file: TextIO) -> None:
        self._progress, self._file = progress, file
        self.totals, self.is_empty = StageTotals(), True

    def start(self, total_images: int, done: Counts) -> None:
        self._progress.start(total_images, done)

    def add(self, report: Report) -> None:
        self.totals.add(report.spans)
        for span in report.spans:
            event = {
                'name': span.stage,
                'ph': 'X',
                'ts': span.start_s * 1e6,
                'dur': span.seconds * 1e6,
                'pid': span.process,
                'tid': span.thread,
                'args': {
                    'images': span.images,
                    'cpu_ms': span.cpu_seconds * 1e3,
                    'bytes': span.num_bytes,
                },
            }
            self._file.write(('[\n' if self.is_empty else ',\n') + json.dumps(event))
            self.is_empty = False
        self._progress.add(report)


@dataclass
class StageTotals:
    """Adds up spans, by stage and by the processes that work on it."""

    # Images, seconds, CPU seconds and bytes handed on.
    stages: dict[str, Double] = field(default_factory=lambda: defaultdict(lambda: np.zeros(4)))
    busy_s: dict[int, dict[str, float]] = field(default_factory=dict)  # process -> stage -> s

    def add(self, spans: Iterable[Span]) -> None:
        """Add spans."""
        for span in spans:
            self.stages[span.stage] += span.images, span.seconds, span.cpu_seconds, span.num_bytes
            busy = self.busy_s.setdefault(span.process, defaultdict(float))
            busy[span.stage] += span.seconds

    def limiting_stage(self) -> str:
        """Name the stage that most of the time of the busiest processes goes into."""
        groups: dict[bool, list[dict[str, float]]] = {True: [], False: []}
        for busy in self.busy_s.values():
            groups['extract' in busy].append(busy)
        return max((_busiest(group) for group in groups.values() if group), default=(0.0, ''))[1]

    def table(self) -> Table:
        """One row per stage: per image milliseconds, CPU milliseconds and bytes handed on."""
        table = Table(title='Stages, per image')
        for column in ('stage', 'images', 'ms', 'CPU ms', 'kB handed on'):
            table.add_column(column, justify='left' if column == 'stage' else 'right')
        for name, (images, *sums) in self.stages.items():
            figures = np.array(sums) * (1e3, 1e3, 1e-3) / max(images, 1)
            table.add_row(name, f'{images:.0f}', *(f'{value:.2f}' for value in figures))
        return table


def _busiest(group: list[dict[str, float]]) -> tuple[float, str]:
    """Mean busy seconds of processes that do the same, and their largest stage."""
    sums: dict[str, float] = defaultdict(float)
    for busy in group:
        # A process that does all stages reads between them, that of a device meanwhile.
        counted = busy if 'encode' in busy else busy.keys() - {'read'}
        for stage in counted:
            sums[stage] += busy[stage]
    return sum(sums.values()) / len(group), max(sums, key=lambda stage: sums[stage], default='')
