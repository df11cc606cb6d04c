"""Train detectors in rounds of self-training on scenes with pseudo-labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config

from cuts3d_mm.configs import find_config
from cuts3d_mm.demo.page import Training
from cuts3d_mm.demo.training import NUM_TRAINING, data_options, train_tiny
from cuts3d_mm.visualization.curves import draw_rounds
from cuts3d_mm.visualization.report.blocks import Table

ROUNDS_CONFIG = 'cuts3d_tiny-cascade-mask-rcnn_r18_scenes-self-training.py'
_SCORES = {'AP50': 'coco/segm_mAP_50', 'AP': 'coco/segm_mAP'}

Log = list[dict[str, Any]]


def train_in_rounds(out: Path, root: Path, num_seeds: int) -> Training:
    """Train the tiny detector in rounds, once per seed; finished trainings are kept.

    Args:
        out: folder of the demo.
        root: scenes, as `write_training_scenes` makes them, with `labels`.
        num_seeds: trainings.
    """
    ends = round_ends()
    scores = {name: np.empty((num_seeds, len(ends))) for name in _SCORES}
    for seed in range(num_seeds):
        work_dir = out / 'self_training' / f'seed_{seed}'
        options = [*data_options(root, root / 'labels'), f'randomness.seed={seed}']
        log = train_tiny(work_dir, options, ROUNDS_CONFIG)
        for name, key in _SCORES.items():
            scores[name][seed] = scores_at(log, ends, key)
    text = (
        f'The detector of the first round labels its {NUM_TRAINING} training scenes again, and '
        'the next round trains on those labels. Scores on held-out scenes after each round.'
    )
    curves = draw_rounds(scores['AP50'])
    return Training('Rounds of self-training', text, _table(scores, num_seeds), curves)


def round_ends() -> list[int]:
    """Last steps of the initial and the further rounds of the config."""
    config = Config.fromfile(str(find_config(ROUNDS_CONFIG)))
    return [*(one.begin for one in config.train_cfg.rounds), config.train_cfg.max_iters]


def scores_at(log: Log, steps: list[int], key: str) -> list[float]:
    """Scores of a log at some steps, in percent.

    Raises:
        ValueError: a step was not evaluated.
    """
    found = {line['step']: 100 * float(line[key]) for line in log if key in line}
    missing = [step for step in steps if step not in found]
    if missing:
        raise ValueError(f'the training log must hold evaluations at {steps}, lacks {missing}')
    return [found[step] for step in steps]


def _table(scores: dict[str, np.ndarray], num_seeds: int) -> Table:
    ddof = min(1, num_seeds - 1)
    spread = {name: values.std(axis=0, ddof=ddof) for name, values in scores.items()}
    rows = []
    for index, each in enumerate(scores['AP50'].T):
        cells = [
            f'{values[:, index].mean():.2f} ± {spread[name][index]:.2f}'
            for name, values in scores.items()
        ]
        name = f'round {index}' if index else 'initial round'
        rows.append([name, *cells, ' '.join(f'{value:.2f}' for value in each)])
    header = ['after', *(f'mask {name} %' for name in scores), 'AP50 of each seed']
    return Table(header, rows, 'Mean and standard deviation over the seeds.')
