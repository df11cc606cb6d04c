"""Read images in threads before they are needed, within limits of number and bytes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import Generic, TypeVar

from cuts3d_mm.pipeline.profile import size_of

T = TypeVar('T')


class ReadAhead(Generic[T]):
    """Reads what some names stand for, in their order.

    A finished read starts the next one, so that reading goes on while nobody asks. What is being
    read comes on top of the limit in bytes: its size is not known before.

    Args:
        read: name -> what it stands for.
        names: in order.
        pool: of the threads.
        threads: reads at a time.
        most: reads that are waiting or on their way.
        most_bytes: of those that are waiting.
    """

    def __init__(
        self,
        read: Callable[[str], T],
        names: Iterable[str],
        pool: ThreadPoolExecutor,
        threads: int,
        most: int,
        most_bytes: int,
    ) -> None:
        self._read, self._remaining, self._pool = read, iter(names), pool
        self._threads, self._most, self._most_bytes = threads, most, most_bytes
        self._reads: deque[Future[T]] = deque()
        self._running = self._waiting_bytes = 0
        self._lock = Lock()

    def __iter__(self) -> Iterator[T]:
        try:
            self._start_more()
            while self._reads:
                value = self._reads[0].result()
                with self._lock:
                    self._reads.popleft()
                    self._waiting_bytes -= size_of(value)
                self._start_more()
                yield value
        finally:
            with self._lock:
                self._remaining = iter(())

    def _start_more(self) -> None:
        with self._lock:
            while self._has_room():
                name = next(self._remaining, None)
                if name is None:
                    return
                self._running += 1
                self._reads.append(self._pool.submit(self._read_one, name))

    def _has_room(self) -> bool:
        is_within = len(self._reads) < self._most and self._waiting_bytes < self._most_bytes
        return not self._reads or (is_within and self._running < self._threads)

    def _read_one(self, name: str) -> T:
        num_bytes = 0
        try:
            value = self._read(name)
            num_bytes = size_of(value)
            return value
        finally:
            with self._lock:
                self._running -= 1
                self._waiting_bytes += num_bytes
            self._start_more()
