"""Scores and losses of trainings in, their curves out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from cuts3d_mm.arrays import Double

_SCORE = 'coco/segm_mAP_50'


def draw_training(log: Sequence[dict[str, Any]]) -> Figure:
    """Draw loss and score over the steps of a training.

    Args:
        log: a dict per logged line, as MMEngine writes them: `step` with `loss`, or with
            `coco/segm_mAP_50` in [0, 1].
    """
    figure = Figure(figsize=(8, 3.2), layout='constrained')
    loss_axes, score_axes = figure.subplots(1, 2)
    losses = [(line['step'], line['loss']) for line in log if 'loss' in line]
    scores = [(line['step'], 100 * line[_SCORE]) for line in log if _SCORE in line]
    for axes, points, label in (
        (loss_axes, losses, 'loss'),
        (score_axes, scores, 'mask AP50 on held-out images, %'),
    ):
        axes.plot(*zip(*points, strict=True), marker='o' if len(points) < 12 else None)
        axes.set(xlabel='step', ylabel=label, ylim=(0, None))
    return figure


def draw_rounds(scores: Double) -> Figure:
    """Draw how the score moves from round to round.

    Args:
        scores: (S, R) mask AP50 in percent of S seeds after R rounds, the initial one first.
    """
    figure = Figure(figsize=(5, 3.2), layout='constrained')
    axes = figure.subplots()
    rounds = range(scores.shape[1])
    for values in scores:
        axes.plot(rounds, values, color='0.7', marker='o', linewidth=1)
    axes.plot(rounds, scores.mean(axis=0), marker='o', linewidth=2, label='mean')
    axes.set(
        xlabel='round of self-training',
        ylabel='mask AP50 on held-out images, %',
        ylim=(0, None),
        xticks=list(rounds),
    )
    axes.legend()
    return figure


def draw_precision_recall(curves: Mapping[str, Mapping[float, Double]]) -> Figure:
    """Draw precision against recall.

    Args:
        curves: name of the labels -> IoU threshold -> (101,) precision at recall 0 to 1.
    """
    figure = Figure(figsize=(5.5, 4), layout='constrained')
    axes = figure.subplots()
    recall = np.linspace(0, 1, 101)
    for (name, by_iou), style in zip(curves.items(), ('-', '--'), strict=False):
        for index, (iou, precision) in enumerate(by_iou.items()):
            axes.plot(recall, precision, style, color=f'C{index}', label=f'{name}, IoU {iou}')
    axes.set(xlabel='recall', ylabel='precision', xlim=(0, 1), ylim=(0, 1))
    axes.legend(fontsize='small')
    return figure
