"""Write the profile of a run: a table of its stages, and a trace."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from rich.console import Console

from cuts3d_mm.labels.store import Counts
from cuts3d_mm.pipeline.profile import Report, Span
from cuts3d_mm.pipeline.progress import ProgressReport
from cuts3d_mm.pipeline.stage_totals import StageTotals


class ChromeTrace:
    """Writes spans as a trace that chrome://tracing and ui.perfetto.dev show.

    Args:
        path: JSON file to write; it is whole when the block ends.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open('w', encoding='utf-8')
        self._separator = '[\n'

    def __enter__(self) -> ChromeTrace:
        return self

    def add(self, spans: Iterable[Span]) -> None:
        """Write spans."""
        for span in spans:
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
            self._file.write(self._separator + json.dumps(event))
            self._separator = ',\n'

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.write('\n]\n' if self._separator != '[\n' else '[]\n')
        self._file.close()


@contextmanager
def profiled(progress: ProgressReport, trace: Path | None) -> Iterator[ProgressReport]:
    """Watch the progress of a run; print a table of its stages when it ends.

    Args:
        progress: what the run reports to.
        trace: JSON file to write; None: no profile.
    """
    if trace is None:
        yield progress
        return
    totals = StageTotals()
    with ChromeTrace(trace) as chrome:
        yield _Both(progress, totals, chrome)
    Console(stderr=True).print(totals.table())


@dataclass(frozen=True)
class _Both:
    """Hands reports to a progress line and to a profile."""

    progress: ProgressReport
    totals: StageTotals
    chrome: ChromeTrace

    def start(self, total_images: int, done: Counts) -> None:
        self.progress.start(total_images, done)

    def add(self, report: Report) -> None:
        self.totals.add(report.spans)
        self.chrome.add(report.spans)
        self.progress.add(report)
