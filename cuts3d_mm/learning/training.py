"""Train by `cuts3d train` in a process of its own, as a user would; resumes."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from cuts3d_mm.engine.runner import require_training
from cuts3d_mm.files.atomic import open_atomically
from cuts3d_mm.learning.folders import PassFolders
from cuts3d_mm.learning.progress import shorten_line
from cuts3d_mm.learning.schedule import Schedule
from cuts3d_mm.processes import run_command_in_child
from cuts3d_mm.weights import read_state

Say = Callable[[str], None]


class TrainingFailed(RuntimeError):
    """A training has ended with an error."""


def train(config: Path, work_dir: Path, gpus: int, say: Say) -> None:
    """Run a training until it ends, from its latest checkpoint if it has one.

    Args:
        config: of the training.
        work_dir: of logs and checkpoints.
        gpus: processes of torchrun; 0 or 1: one process without it.
        say: is given the lines about progress.

    Raises:
        TrainingFailed: the message is the end of its output.
    """
    command = train_command(config, work_dir, gpus, has_checkpoint(work_dir))
    hidden = None if gpus else {'CUDA_VISIBLE_DEVICES': ''}
    done = run_command_in_child(
        [sys.executable, '-m', *command], lambda line: _pass_on(line, say), hidden
    )
    if done.returncode:
        raise TrainingFailed(f'training failed: {done.stdout[-2000:].strip()}')


def train_command(config: Path, work_dir: Path, gpus: int, resumes: bool) -> list[str]:
    """The module of Python that trains, and its arguments."""
    arguments = ['train', str(config), '--work-dir', str(work_dir)]
    if resumes:
        arguments.append('--resume')
    if gpus <= 1:
        return ['cuts3d_mm', *arguments]
    launcher = ['torch.distributed.run', '--standalone', f'--nproc_per_node={gpus}']
    return [*launcher, '-m', 'cuts3d_mm', *arguments, '--launcher', 'pytorch']


def has_checkpoint(work_dir: Path) -> bool:
    """Tell whether a training has saved anything to resume from; what a kill has torn is none."""
    return any(map(_is_whole, (*work_dir.glob('iter_*.pth'), *work_dir.glob('round_*/begin.pth'))))


def weights_after(folders: PassFolders, number: int) -> Path:
    """Checkpoint at the end of a round, 0 for the initial one; the next one begins with it."""
    return folders.work_dir / f'round_{number + 1}' / 'begin.pth'


def last_weights(folders: PassFolders, schedule: Schedule) -> Path | None:
    """The latest checkpoint at the end of a round; None where no round has ended."""
    rounds = range(len(schedule.round_steps), -1, -1)
    return next((one for n in rounds if (one := weights_after(folders, n)).is_file()), None)


def has_ended(work_dir: Path, num_steps: int) -> bool:
    """Tell whether a training has saved its last checkpoint; one that a kill has torn is none."""
    last = checkpoint_after(work_dir, num_steps)
    return last.is_file() and _is_whole(last)


def checkpoint_after(work_dir: Path, num_steps: int) -> Path:
    """Checkpoint that MMEngine saves after a number of steps."""
    return work_dir / f'iter_{num_steps}.pth'


def keep_last_round(folders: PassFolders, schedule: Schedule) -> bool:
    """Keep the last checkpoint of a training as the one that another round would begin with.

    Returns:
        Whether the training has ended.
    """
    kept = weights_after(folders, len(schedule.round_steps))
    if not kept.is_file() and has_ended(folders.work_dir, schedule.total_steps):
        kept.parent.mkdir(parents=True, exist_ok=True)
        last = checkpoint_after(folders.work_dir, schedule.total_steps)
        with last.open('rb') as source, open_atomically(kept) as target:
            shutil.copyfileobj(source, target)
    return kept.is_file()


def read_log(work_dir: Path) -> list[dict[str, Any]]:
    """Read what a training has logged, resumed runs joined, each step once, in order."""
    lines: dict[tuple[int, bool], dict[str, Any]] = {}
    for path in sorted(work_dir.glob('*/vis_data/scalars.json')):
        for text in path.read_text().splitlines():
            with suppress(json.JSONDecodeError):  # the last one, where a run was killed
                line = json.loads(text)
                lines[line['step'], 'loss' in line] = line
    return [lines[key] for key in sorted(lines)]


def _is_whole(checkpoint: Path) -> bool:
    try:
        require_training(read_state(str(checkpoint)))
    except ValueError:
        return False
    return True


def _pass_on(line: str, say: Say) -> None:
    text = shorten_line(line)
    if text is not None:
        say(text)
