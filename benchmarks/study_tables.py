"""Tables of a study, paired over images, with 95 % bootstrap intervals."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr
from study_scores import ImageScore

from cuts3d_mm.visualization.charts import format_table

_RESAMPLES, _RANK_RESAMPLES = 2000, 500  # the latter for what sorts all cuts
_RECALLS = np.linspace(0, 1, 101)  # recalls at which COCO samples


def recipe_table(scores: dict[str, list[ImageScore]]) -> str:
    """Percent per recipe; differences are to the first."""
    header = ['recipe', 'AP', 'to the first', 'AP50', 'to the first', 'AR100', 'to the first']
    header += ['small', 'medium', 'large', 'recall .5', 'best IoU', 'to the first', 'cuts']
    header += ['right at .5', 'at most 1 %']
    rows, first, first_precision = [], None, None
    for name, images in scores.items():
        draws = _draws(len(images), _RESAMPLES)
        sums = np.array(
            [(s.found.mean(1).sum(), s.best_iou.sum(), len(s.found)) for s in images], float
        )
        totals = np.concatenate([sums.sum(0, keepdims=True), sums[draws].sum(1)])
        ratios = 100 * totals[:, :2] / totals[:, 2:]
        first = ratios if first is None else first
        recall, best = (_interval(ratios[:, c] - first[:, c]) for c in (0, 1))
        found = np.concatenate([s.found for s in images])
        sizes = np.concatenate([s.size_class() for s in images])
        by_size = [f'{100 * found[sizes == size].mean():.2f}' for size in range(3)]
        draws = [range(len(images)), *_draws(len(images), _RANK_RESAMPLES)]
        precision = np.array([_average_precision([images[i] for i in draw]) for draw in draws])
        first_precision = precision if first_precision is None else first_precision
        ranked = []
        for c in (0, 1):
            gain = _interval(100 * (precision[:, c] - first_precision[:, c]))
            ranked += [f'{100 * precision[0, c]:.2f}', gain]
        values = [f'{ratios[0, 0]:.2f}', recall, *by_size, f'{100 * found[:, 0].mean():.2f}']
        cuts = np.concatenate([s.cuts for s in images])
        right = np.concatenate([s.is_right[:, 0] for s in images])
        last = [f'{len(cuts) / len(images):.2f}', f'{100 * right.mean():.1f}']
        last.append(f'{100 * np.mean(cuts[:, 3] <= 0.01):.1f}')
        rows.append([name, *ranked, *values, f'{ratios[0, 1]:.2f}', best, *last])
    return format_table(header, rows)


def confidence_table(scores: dict[str, list[ImageScore]]) -> str:
    """What the confidence says about patches and, averaged, about masks."""
    header = ['recipe', 'patch AUC', 'rank correlation with IoU', 'scores of exactly 1']
    rows = []
    for name, images in scores.items():
        cuts = np.concatenate([s.cuts for s in images])
        auc = np.nanmean(cuts[:, 2]) if np.isfinite(cuts[:, 2]).any() else float('nan')
        correlation = 'none: all are equal'
        if len(set(cuts[:, 0])) > 1:
            correlation = _interval(_rank_correlations([s.cuts[:, :2] for s in images]))
        exact = f'{100 * np.mean(cuts[:, 0] > 0.9999):.0f} %'
        rows.append([name, f'{auc:.3f}', correlation, exact])
    return format_table(header, rows)


def fixed_cut_table(changes: dict[str, list[NDArray]]) -> str:
    """Best IoU of the same 2D cuts before and after LocalCut, in percent."""
    rows = []
    for name, images in changes.items():
        sums = np.array([(*image[:, :2].sum(0), len(image)) for image in images], float)
        totals = np.concatenate(
            [sums.sum(0, keepdims=True), sums[_draws(len(images), _RESAMPLES)].sum(1)]
        )
        means = 100 * totals[:, :2] / totals[:, 2:]
        share = f'{100 * np.concatenate(images)[:, 2].mean():.0f} %'
        change = _interval(means[:, 1] - means[:, 0])
        rows.append([name, f'{means[0, 0]:.2f}', f'{means[0, 1]:.2f}', change, share])
    return format_table(['recipe', 'before', 'after', 'change', 'cuts that change'], rows)


def gain_interval(before: list[ImageScore], after: list[ImageScore]) -> tuple[float, float, float]:
    """Gain of the mean best IoU per object in percent, and its 95 % interval."""
    pairs = zip(before, after, strict=True)
    sums = np.array([(b.best_iou.sum(), a.best_iou.sum(), len(a.found)) for b, a in pairs], float)
    totals = np.concatenate(
        [sums.sum(0, keepdims=True), sums[_draws(len(after), _RESAMPLES)].sum(1)]
    )
    gains = 100 * (totals[:, 1] - totals[:, 0]) / totals[:, 2]
    low, high = np.quantile(gains[1:], (0.025, 0.975))
    return float(gains[0]), float(low), float(high)


def _average_precision(images: list[ImageScore]) -> tuple[float, float]:
    """AP and AP50 with cuts ranked by their score."""
    order = np.argsort(-np.concatenate([s.cuts[:, 0] for s in images]), kind='stable')
    is_right = np.concatenate([s.is_right for s in images])[order]
    return average_precision(is_right, sum(len(s.found) for s in images))


def average_precision(is_right: NDArray[np.bool_], num_objects: int) -> tuple[float, float]:
    """AP and AP50 in [0, 1] as COCO interpolates.

    Args:
        is_right: (K, 10) whether a cut is matched at each IoU threshold, best score first.
        num_objects: true objects.
    """
    right = np.cumsum(is_right, axis=0)
    precision = right / np.arange(1, len(right) + 1)[:, None]
    precision = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    values = []
    for column in range(is_right.shape[1]):
        at = np.searchsorted(right[:, column] / num_objects, _RECALLS)
        padded = np.append(precision[:, column], 0)
        values.append(padded[np.minimum(at, len(precision))].mean())
    return float(np.mean(values)), float(values[0])


def _rank_correlations(images: list[NDArray]) -> NDArray[np.float64]:
    """Spearman correlation of two columns: of all images, then of resampled ones."""
    values = [spearmanr(*np.concatenate(images).T)[0]]
    for draw in _draws(len(images), _RANK_RESAMPLES):
        values.append(spearmanr(*np.concatenate([images[index] for index in draw]).T)[0])
    return np.array(values)


def _draws(count: int, resamples: int) -> NDArray[np.int64]:
    return np.random.default_rng(0).integers(0, count, (resamples, count))


def _interval(values: NDArray) -> str:
    low, high = np.nanquantile(values[1:], (0.025, 0.975))
    return f'{values[0]:+.2f} [{low:+.2f}, {high:+.2f}]'
