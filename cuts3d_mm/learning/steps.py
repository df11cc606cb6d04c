"""Note how long each step took and how much memory it needed."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from cuts3d_mm.files.atomic import write_whole

_KIB = 1024


@dataclass(frozen=True)
class StepCost:
    """What a step took in the longest run that ended it; a later run finds it done."""

    seconds: float
    peak_bytes: int  # of main memory, of the largest process so far; 0: not known


def read_steps(path: Path) -> dict[str, StepCost]:
    """Costs by the name of the step, in the order in which the steps began."""
    content: dict[str, dict[str, float]] = {}
    with suppress(FileNotFoundError):
        content = json.loads(path.read_text(encoding='utf-8'))
    return {
        name: StepCost(one['seconds'], int(one['peak_bytes'])) for name, one in content.items()
    }


@contextmanager
def timed(path: Path, name: str) -> Iterator[None]:
    """Note the cost of a block when it has ended; interrupted time is not counted."""
    began = time.monotonic()
    yield
    costs, cost = read_steps(path), StepCost(time.monotonic() - began, _peak_bytes())
    if name not in costs or cost.seconds > costs[name].seconds:
        costs[name] = cost
    content = {one: asdict(cost) for one, cost in costs.items()}
    write_whole(path, json.dumps(content, indent=1))


def _peak_bytes() -> int:
    """Largest resident size of this process or of a child that has ended."""
    if sys.platform == 'win32':
        return 0
    import resource

    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    unit = 1 if sys.platform == 'darwin' else _KIB
    return unit * max(resource.getrusage(one).ru_maxrss for one in who)
