"""Train a tiny detector on the pseudo-labels of rendered scenes."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

from cuts3d_mm.child_processes import run_command_in_child
from cuts3d_mm.demo.datasets import DemoSet, write_scenes

TINY_CONFIG = 'cuts3d_tiny-cascade-mask-rcnn_r18_scenes.py'
NUM_TRAINING = 96  # scenes
NUM_HELD_OUT = 24
_TRAINING_SEED, _HELD_OUT_SEED = 100, 200


class TrainingFailed(RuntimeError):
    """A training in a process of its own has ended with an error."""


def write_training_scenes(root: Path, num_training: int, num_held_out: int) -> list[DemoSet]:
    """Write scenes to train on and scenes to test on.

    Returns:
        Both sets; the second lies in `held_out/` of the first.
    """
    title = f'{num_training} scenes to train on'
    training = DemoSet(title, root, 'far', is_photo=False)
    title = f'{num_held_out} held-out scenes'
    held_out = DemoSet(title, root / 'held_out', 'far', is_photo=False)
    write_scenes(training, num_training, _TRAINING_SEED)
    write_scenes(held_out, num_held_out, _HELD_OUT_SEED)
    return [training, held_out]


def data_options(root: Path, labels: Path) -> list[str]:
    """Config changes that point the tiny config to scenes and labels."""
    train, val = 'train_dataloader.dataset.dataset', 'val_dataloader.dataset'
    root, labels = root.resolve(), labels.resolve()
    return [
        f'{train}.data_root={root}',
        f'{train}.ann_file={labels}',
        *(f'{part}.data_root={root}' for part in (val, 'test_dataloader.dataset')),
        *(
            f'{part}.ann_file={root}/held_out/instances.json'
            for part in ('val_evaluator', 'test_evaluator')
        ),
    ]


def schedule_options(max_iters: int) -> list[str]:
    """Config changes for `max_iters` steps: the rate drops after 4/5, three evaluations."""
    return [
        f'train_cfg.max_iters={max_iters}',
        f'train_cfg.val_interval={math.ceil(max_iters / 3)}',
        f'param_scheduler.1.end={max_iters}',
        f'param_scheduler.1.milestones=[{max_iters * 4 // 5}]',
    ]


def train_tiny(
    work_dir: Path, options: list[str], config: str = TINY_CONFIG
) -> list[dict[str, Any]]:
    """Train by `cuts3d train` in a process of its own, as a user would; resumes.

    Args:
        work_dir: logs and checkpoints.
        options: `key=value` changes of the config.
        config: name of a shipped config.

    Returns:
        The log, a dict per line: losses by `step`, and scores such as `coco/segm_mAP_50`.

    Raises:
        TrainingFailed: the message is the end of its output.
    """
    arguments = ['train', config, '--work-dir', str(work_dir), '--resume']
    command = [sys.executable, '-m', 'cuts3d_mm', *arguments, '--cfg-options', *options]
    done = run_command_in_child(command)
    if done.returncode:
        raise TrainingFailed(f'training failed: {done.stdout[-2000:]}')
    return read_log(work_dir)


def read_log(work_dir: Path) -> list[dict[str, Any]]:
    """Read what a training has logged, resumed runs joined, in order."""
    lines = []
    for path in sorted(work_dir.glob('*/vis_data/scalars.json')):
        lines += [json.loads(line) for line in path.read_text().splitlines()]
    return lines


def final_scores(log: list[dict[str, Any]]) -> dict[str, float]:
    """Scores of the last evaluation in percent: AP and AP50 of masks.

    Raises:
        ValueError: there was none.
    """
    scored = [line for line in log if 'coco/segm_mAP' in line]
    if not scored:
        raise ValueError('the training log must hold an evaluation, got none')
    names = {'AP': 'coco/segm_mAP', 'AP50': 'coco/segm_mAP_50'}
    return {name: 100 * float(scored[-1][key]) for name, key in names.items()}
