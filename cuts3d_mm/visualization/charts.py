"""Draw curves and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from cuts3d_mm.arrays import Double

_SCORE = 'coco/segm_mAP_50'
_LEAST_TOP = 10  # percent: a score of nearly nothing looks like nothing
_ROOM_FOR_LEGEND = 1.15  # height of the axes over the highest sum of losses
# Part of a detector -> text that the names of its losses hold.
_PARTS = {
    'proposals (RPN)': 'loss_rpn_',
    'object or not': '.loss_cls',
    'boxes': '.loss_bbox',
    'masks': '.loss_mask',
}


def draw_training(
    log: Sequence[dict[str, Any]], score: str = 'mask AP50 on held-out images, %'
) -> Figure:
    """Draw losses, part by part, and the score over the steps of a training.

    Args:
        log: a dict per logged line, as MMEngine writes them: `step` with losses such as
            `loss_rpn_cls` and `s0.loss_mask`, or with `coco/segm_mAP_50` in [0, 1].
        score: label of the axis of the score, in percent.
    """
    figure = Figure(figsize=(11, 3.6), layout='constrained')
    loss_axes, score_axes = figure.subplots(1, 2)
    lines = [line for line in log if 'loss' in line]
    if lines:
        parts = {  # summed over the stages of a cascade
            name: [sum(value for key, value in line.items() if mark in key) for line in lines]
            for name, mark in _PARTS.items()
        }
        steps = [line['step'] for line in lines]
        loss_axes.stackplot(steps, *parts.values(), labels=list(parts), alpha=0.85)
        loss_axes.margins(x=0)
        loss_axes.legend(ncols=len(parts), fontsize=8, frameon=False, loc='upper center')
    scores = [(line['step'], 100 * line[_SCORE]) for line in log if _SCORE in line]
    score_axes.plot(*zip(*scores, strict=True), marker='o')
    top = _ROOM_FOR_LEGEND * max((line['loss'] for line in lines), default=1.0)
    loss_axes.set(xlabel='step', title='losses, one on top of the other', ylim=(0, top))
    score_axes.set(xlabel='step', title=score, ylim=(0, _top([y for _, y in scores])))
    return figure


def _top(scores: Sequence[float]) -> float:
    """Upper end of an axis of scores in percent."""
    return max(_LEAST_TOP, 1.05 * max(scores, default=0))


def draw_rounds(scores: Double, control: Double | None = None) -> Figure:
    """Draw how the score moves from round to round.

    Args:
        scores: (S, R) mask AP50 in percent of S seeds after R rounds, the initial one first.
        control: (S,) mask AP50 in percent of detectors that trained as long without new labels.
    """
    figure = Figure(figsize=(5, 3.2), layout='constrained')
    axes = figure.subplots()
    rounds = range(scores.shape[1])
    for values in scores:
        axes.plot(rounds, values, color='0.7', marker='o', linewidth=1)
    axes.plot(rounds, scores.mean(axis=0), marker='o', linewidth=2, label='mean')
    if control is not None:
        ends, mean = [0, rounds[-1]], [scores[:, 0].mean(), control.mean()]
        axes.plot([rounds[-1]] * len(control), control, '^', color='C1', alpha=0.4)
        axes.plot(ends, mean, '^--', color='C1', label='mean of the same steps on the old labels')
    axes.set(
        xlabel='round of self-training',
        ylabel='mask AP50 on held-out images, %',
        ylim=(0, _top([*scores.ravel(), *([] if control is None else control)])),
        xticks=list(rounds),
    )
    axes.legend()
    return figure


def draw_precision_recall(curves: Mapping[str, Mapping[float, Double]]) -> Figure:
    """Draw the precision, (101,) at recall 0 to 1, by name of the labels and IoU threshold."""
    figure = Figure(figsize=(5.5, 4), layout='constrained')
    axes = figure.subplots()
    recall = np.linspace(0, 1, 101)
    for (name, by_iou), style in zip(curves.items(), ('-', '--'), strict=False):
        for index, (iou, precision) in enumerate(by_iou.items()):
            axes.plot(recall, precision, style, color=f'C{index}', label=f'{name}, IoU {iou}')
    axes.set(xlabel='recall', ylabel='precision', xlim=(0, 1), ylim=(0, 1))
    axes.legend(fontsize='small')
    return figure


def format_scores(scores: dict[str, dict[str, float]]) -> str:
    """Format `{'segm': {'AP': 0.1, ...}, ...}` in percent."""
    names = list(next(iter(scores.values())))
    rows = [[kind, *map(percent, figures.values())] for kind, figures in scores.items()]
    return format_table(['percent', *names], rows)


def percent(score: float) -> str:
    """Format a score in [0, 1] in percent; '-' for the -1 of COCO, where there is no object."""
    return '-' if score < 0 else f'{100 * score:.2f}'


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Align columns as a Markdown table, the first to the left, the others to the right."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    rule = ['-' * widths[0], *('-' * (width - 1) + ':' for width in widths[1:])]
    lines = [_line(header, widths), _line(rule, widths), *(_line(row, widths) for row in rows)]
    return '\n'.join(lines)


def draw_table(header: Sequence[str], rows: Sequence[Sequence[str]], title: str) -> Figure:
    """Draw a table; the first row, which was measured here, is bold."""
    width = 0.085 * sum(max(len(row[i]) for row in (header, *rows)) for i in range(len(header)))
    figure = Figure(figsize=(width + 1, 0.3 * (len(rows) + 2)), layout='constrained')
    axes = figure.subplots()
    axes.set_axis_off()
    axes.set_title(title, fontsize=10)
    table = axes.table([list(row) for row in rows], colLabels=list(header), loc='center')
    table.auto_set_font_size(False)
    table.set_fontsize(8)
    table.auto_set_column_width(list(range(len(header))))
    for column in range(len(header)):
        table[0, column].set_facecolor('#e8e8e8')
        table[1, column].set_text_props(weight='bold')
    return figure


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = zip(cells, widths, strict=True)
    padded = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
    return f'| {" | ".join(padded)} |'
