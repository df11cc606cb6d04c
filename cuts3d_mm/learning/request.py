"""What a user asks `cuts3d learn` for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_UNITS_S = {'s': 1.0, 'm': 60.0, 'h': 3600.0, 'd': 86400.0}
_DURATION = re.compile(r'(\d+(?:\.\d+)?)([smhd])')


@dataclass(frozen=True)
class Request:
    """The command line; None leaves a choice to the plan."""

    images: Path
    out: Path
    config: str | None = None  # of the generator of pseudo-labels
    detector: str | None = None  # config of a training
    depth: Path | None = None
    offline: bool = False
    rounds: int | None = None
    gpus: int | None = None
    budget_s: float | None = None
    annotations: Path | None = None
    labels: Path | None = None  # COCO JSON with classes, of a few images
    exclude: Path | None = None
    load_from: str | None = None
    seed: int | None = None
    workers: int | None = None


def parse_duration(text: str) -> float:
    """Read a duration such as 30m, 6h or 1.5d, in seconds.

    Raises:
        ValueError: it is none.
    """
    found = _DURATION.fullmatch(text.strip())
    if found is None or not float(found[1]):
        raise ValueError(f'a duration must be a number and s, m, h or d, such as 6h, got {text!r}')
    return float(found[1]) * _UNITS_S[found[2]]


def format_duration(seconds: float) -> str:
    """Write a duration in its largest unit: 45 s, 12 min, 3.5 h, 2.1 days."""
    for unit, length, digits in (('days', 86400.0, 1), ('h', 3600.0, 1), ('min', 60.0, 0)):
        if seconds >= 1.5 * length:
            return f'{seconds / length:.{digits}f} {unit}'
    return f'{seconds:.0f} s'
