"""Learn a detector from rendered scenes, as `cuts3d learn` does."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cuts3d_mm.demo.datasets import TRAINING_SEED, DemoSet, write_scenes
from cuts3d_mm.demo.page import Training
from cuts3d_mm.learning.plan import Request
from cuts3d_mm.visualization.charts import draw_rounds, draw_training
from cuts3d_mm.visualization.report_page import Table

NUM_SCENES = 96
_METRICS = ('mask AP %', 'mask AP50 %', 'mask AR100 %')
_AP50 = 2  # column of a row of scores
_WHY_LOSSES_RISE = (
    'The sum of the losses can rise at first: boxes and masks are learned from proposals that '
    'overlap an object, and there are few of those until the RPN has learned to propose some.'
)


def learn_from_scenes(
    out: Path, workers: int, rounds: int, num_seeds: int
) -> Iterator[tuple[str, Training]]:
    """Run `learn` once per seed; finished runs are kept.

    Args:
        out: folder of the demo; the runs are `learned_0`, `learned_1`, ...
        workers: processes that label.
        rounds: of self-training.
        num_seeds: trainings.

    Yields:
        Trainings for the page, each with the name of its picture.
    """
    scenes = DemoSet(f'{NUM_SCENES} scenes', out / 'training', 'far', is_photo=False)
    write_scenes(scenes, NUM_SCENES, TRAINING_SEED)
    request = Request(
        scenes.images,
        out / 'learned_0',
        offline=True,
        depth=scenes.depth,
        annotations=scenes.ground_truth,
        rounds=rounds,
        gpus=0,
        workers=workers,
    )
    results = [_learn(request, out / f'learned_{seed}', seed) for seed in range(num_seeds)]
    yield 'training', _first(results[0], out)
    if num_seeds > 1:
        yield 'other_seeds', _all_seeds(results)


def _learn(request: Request, out: Path, seed: int) -> Any:
    from cuts3d_mm.learning.loop import learn  # torch, which cutting does not need

    return learn(replace(request, out=out, seed=seed), _say)


def _say(line: str) -> None:
    sys.stderr.write(f'{line}\n')


def _first(results: Any, out: Path) -> Training:
    schedule = results.plan.current.schedule
    kept = [f'Round {n}: {one.describe()}.' for n, one in enumerate(results.kept, 1)]
    text = (
        f'cuts3d learn on {NUM_SCENES} scenes: a ResNet-18 from scratch, {schedule.initial_steps} '
        f'steps on pseudo-labels and {len(schedule.round_steps)} rounds of self-training. Its own '
        f'report is {out.name}/learned_0/report.html. {_WHY_LOSSES_RISE} {" ".join(kept)}'
    )
    header = [f'on {results.num_annotated} held-out scenes', *_METRICS]
    curves = draw_training(results.log, 'mask AP50 against held-out pseudo-labels, %')
    return Training('A detector from images alone', text, Table(header, results.scores), curves)


def _all_seeds(results: list[Any]) -> Training:
    """Mask AP50 after each round; the first row of scores is that of the pseudo-labels."""
    scores = np.array([[float(row[_AP50]) for row in one.scores[1:]] for one in results])
    names = [row[0] for row in results[0].scores[1:]]
    rows = [
        [name, f'{each.mean():.2f} ± {each.std(ddof=1):.2f}', ' '.join(f'{v:.2f}' for v in each)]
        for name, each in zip(names, scores.T, strict=True)
    ]
    text = 'Mask AP50 on the held-out scenes, mean and standard deviation over the seeds.'
    table = Table(['labels', 'mask AP50 %', 'of each seed'], rows)
    return Training('The same with other seeds', text, table, draw_rounds(scores))
