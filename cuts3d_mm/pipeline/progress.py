"""Show the progress of a run in one line: rate, time left, instances, what limits the rate."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from cuts3d_mm.labels.store import Counts
from cuts3d_mm.pipeline.profile import Report
from cuts3d_mm.pipeline.stage_totals import StageTotals

_LOG_EVERY_S = 10.0  # where the output is no terminal


class ProgressReport(Protocol):
    """Receives the progress of a run."""

    def start(self, total_images: int, done: Counts) -> None:
        """Take note of the size of the run and of what an earlier call has done."""

    def add(self, report: Report) -> None:
        """Take note of what is done since the last call."""


class ProgressLine:
    """A bar on a terminal, a line every ten seconds in a log.

    Args:
        task: what is going on, and on which images, such as 'labelling val2017'.
    """

    def __init__(self, task: str) -> None:
        self._name = task
        self._total = 0
        self._counts = Counts()
        self._resumed = 0
        self._totals = StageTotals()
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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
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
        self._bar.update(self._task, completed=self._counts.images, facts=self._facts())
        now = time.monotonic()
        if self._bar.disable and now - self._logged >= _LOG_EVERY_S:
            self._logged = now
            self._log(self._facts())

    def _log(self, what: str) -> None:
        done = f'{self._counts.images}/{self._total} images'
        print(f'{self._name}: {done}, {what}', file=sys.stderr, flush=True)

    def _facts(self) -> str:
        seconds = max(time.monotonic() - self._started, 1e-9)
        rate = (self._counts.images - self._resumed) / seconds
        left_s = (self._total - self._counts.images) / rate if rate > 0 else 0.0
        facts = f'{rate:.2f} images/s, {self._counts.instances} instances'
        if self._bar.disable and rate > 0:
            facts += f', {left_s:.0f} s left'
        stage = self._totals.limiting_stage()
        limit = f', limited by {stage}' if stage else ''
        return f'{facts}, {self._counts.failures} failures{limit}'
