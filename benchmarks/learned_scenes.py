"""Rendered scenes with exact depth, `cuts3d learn` on them, and tables over seeds."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cuts3d_mm.demo.photos import DemoSet, write_scenes

SETS = {'train': (96, 0), 'test': (96, 900)}  # number of scenes, seed


def scenes(out: Path, name: str) -> DemoSet:
    """Render a set of scenes, unless it is there."""
    target = DemoSet(name, out / name, 'far', is_photo=False)
    return target if target.ground_truth.is_file() else write_scenes(out / name, name, *SETS[name])


def learn(train: DemoSet, out: Path, seed: int, rounds: int, *more: Any) -> None:
    """Learn a detector from scenes on the CPU, in a process of one worker."""
    options = ['--offline', '--depth', train.depth, '--rounds', rounds, '--seed', seed]
    cuts3d('learn', train.images, out, *options, '--gpus', 0, '--workers', 0, *more)


def cuts3d(*words: Any) -> None:
    """Run a command."""
    subprocess.run([sys.executable, '-m', 'cuts3d_mm', *map(str, words)], check=True)


def row(name: str, values: Sequence[Sequence[float]], last: int) -> list[str]:
    """Mean and standard deviation of each score over the seeds, and a score for each seed."""
    means = np.mean(values, axis=0)
    spread = np.std(values, axis=0, ddof=1) if len(values) > 1 else np.full_like(means, np.nan)
    cells = [f'{mean:.1f} ± {sd:.1f}' for mean, sd in zip(means, spread, strict=True)]
    return [name, *cells, ' '.join(f'{value[last]:.1f}' for value in values)]
