"""Measure the stages of a run: seconds, CPU seconds and bytes."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np

from cuts3d_mm.labels.store import Counts


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
