"""Detect ranks that have died: every living rank keeps changing a file of its own.

Ranks may run on several hosts that share only a file system, so they use files. The clocks of
hosts differ, so a rank watches for changes of a file and does not compare times.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

SILENCE_LIMIT_S = 120.0  # network file systems may show a change a minute late
_BEATS_PER_LIMIT = 20
_POLL_S = 0.5


class RankLost(RuntimeError):
    """Another rank has died."""


class Heartbeats:
    """Context manager that shows that this rank is alive and can wait for others.

    Args:
        folder: of the heartbeats, on a file system that all ranks share.
        rank: number of this rank.
        num_ranks: of the training.
        limit_s: how long a rank may be silent.
    """

    def __init__(self, folder: Path, rank: int, num_ranks: int, limit_s: float) -> None:
        self._folder, self._rank, self._limit_s = folder, rank, limit_s
        self._others = [one for one in range(num_ranks) if one != rank]
        self._ended = threading.Event()

    def __enter__(self) -> Heartbeats:
        """Begin to beat."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()

    def wait_until(self, is_done: Callable[[], bool]) -> None:
        """Wait for what the ranks do together.

        Raises:
            RankLost: another rank has been silent for the limit.
        """
        seen = dict.fromkeys(self._others, (b'', time.monotonic()))
        while not is_done():
            now = time.monotonic()
            for rank in self._others:
                beat = self._read(rank)
                if beat != seen[rank][0]:
                    seen[rank] = beat, now
                elif now - seen[rank][1] > self._limit_s:
                    raise RankLost(
                        f'rank {rank} must give a sign of life every {self._limit_s:g} s, it has '
                        'given none; start the training again with --resume'
                    )
            time.sleep(_POLL_S)

    def _beat(self) -> None:
        path, number = self._folder / f'rank_{self._rank}', 0
        while not self._ended.is_set():
            number += 1
            try:
                path.write_text(f'{number} {time.time()}')
            except OSError:  # a full disk does not mean death; the next beat may succeed
                pass
            self._ended.wait(self._limit_s / _BEATS_PER_LIMIT)

    def _read(self, rank: int) -> bytes:
        try:
            return (self._folder / f'rank_{rank}').read_bytes()
        except OSError:
            return b''
