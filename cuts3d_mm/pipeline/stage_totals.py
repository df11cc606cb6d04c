"""Sum up what the stages of a run took, and name the one that limits its rate."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from rich.table import Table

from cuts3d_mm.pipeline.profile import Span


@dataclass
class _Total:
    """Of one stage."""

    images: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    num_bytes: int = 0


@dataclass
class StageTotals:
    """Adds up spans, by stage and by the processes that work on it."""

    stages: dict[str, _Total] = field(default_factory=lambda: defaultdict(_Total))
    busy_s: dict[int, dict[str, float]] = field(default_factory=dict)  # process -> stage -> s

    def add(self, spans: Iterable[Span]) -> None:
        """Add spans."""
        for span in spans:
            total = self.stages[span.stage]
            total.images += span.images
            total.seconds += span.seconds
            total.cpu_seconds += span.cpu_seconds
            total.num_bytes += span.num_bytes
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
        for name, total in self.stages.items():
            count = max(total.images, 1)
            figures = (total.seconds * 1e3, total.cpu_seconds * 1e3, total.num_bytes / 1e3)
            table.add_row(name, str(total.images), *(f'{value / count:.2f}' for value in figures))
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
