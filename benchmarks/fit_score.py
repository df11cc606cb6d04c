"""Fit the score of an instance on photos and scenes, and print how well it ranks others.

    python benchmarks/fit_score.py --photos DIR [--held-out]

DIR is that of method_study.py. The coefficients are fitted on the half `choose` and on scenes of
one seed, every set counting the same, and go into `ScoreParams`. With --held-out a table shows
the other half and scenes of another seed: for one last look.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from study_data import SIMILARITY, StudyImage, cached_features, make_scenes, read_photos
from study_scores import IOU_THRESHOLDS, mask_ious, matched
from study_tables import average_precision
from threadpoolctl import threadpool_limits

from cuts3d_mm.algorithm.crf import refine_to_image
from cuts3d_mm.algorithm.cut_instances import cut_patches, link_image
from cuts3d_mm.algorithm.params import CutParams, ScoreParams
from cuts3d_mm.algorithm.score import mask_signals
from cuts3d_mm.visualization.charts import format_table

SIGNALS = (
    'confidence',
    'log_contrast',
    'log_step',
    'in_front',
    'refined_iou',
    'border_share',
    'eigenvalue',
)
SEEDS = {'choose': 7, 'held-out': 11}  # scenes
_NEWTON_STEPS, _RIDGE = 30, 1.0
_WEIGHT_OF_A_SET = 1000.0
_BINS = (0.0, 0.1, 0.2, 0.4, 0.6, 1.0)


@dataclass(frozen=True)
class ScoredCuts:
    """The cuts of one image: what the score may use, and how well they overlap objects."""

    signals: NDArray[np.float64]  # (K, 7) by SIGNALS
    area: NDArray[np.float64]  # (K,) share of the grid
    iou: NDArray[np.float64]  # (M, K) with the true objects


def collect(image: StudyImage, kind: str, depth: str, cache: Path) -> ScoredCuts:
    """Cut an image by the recommended recipe and compute the signals of its cuts."""
    threadpool_limits(1)
    cv2.setNumThreads(1)
    params, score = CutParams(), ScoreParams()
    features = cached_features(image, kind, cache)
    linked = link_image(features, image.depth_of(depth), params, SIMILARITY[kind])
    found = cut_patches(linked, params)
    masks = [cut.patches for cut in found.instances]
    refined = refine_to_image(masks, image.resized, image.resized.shape[:2], params.refine)
    rows, kept = [], []
    for cut, (mask, iou) in zip(found.instances, refined, strict=True):
        if mask is not None:
            inputs = cut.patches, cut.confidence, found.depth, iou, cut.eigenvalue, score
            signals = mask_signals(*inputs)
            rows.append([signals[name] for name in SIGNALS])
            kept.append(cut.patches.ravel())
    objects = image.objects.reshape(len(image.masks), -1)
    ious = mask_ious(objects, np.array(kept)) if kept else np.zeros((len(objects), 0))
    area = np.array([patches.mean() for patches in kept])
    return ScoredCuts(np.array(rows).reshape(-1, len(SIGNALS)), area, ious)


def fit(sets: list[list[ScoredCuts]]) -> NDArray[np.float64]:
    """Bias and coefficients of a logistic model of "best IoU at least 0.5"."""
    signals = np.concatenate([image.signals for images in sets for image in images])
    is_right = np.concatenate([_is_right(image) for images in sets for image in images])
    counts = [sum(len(image.signals) for image in images) for images in sets]
    weight = np.concatenate([np.full(n, _WEIGHT_OF_A_SET / n) for n in counts])
    mean, spread = signals.mean(axis=0), signals.std(axis=0)
    design = np.column_stack([np.ones(len(signals)), (signals - mean) / spread])
    ridge = _RIDGE * np.diag([1e-9, *np.ones(len(SIGNALS))])
    found = np.zeros(len(SIGNALS) + 1)
    for _ in range(_NEWTON_STEPS):
        chance = 1 / (1 + np.exp(-design @ found))
        gradient = design.T @ (weight * (chance - is_right)) + ridge @ found
        curvature = design.T @ (design * (weight * chance * (1 - chance))[:, None]) + ridge
        found -= np.linalg.solve(curvature, gradient)
    slopes = found[1:] / spread
    return np.array([found[0] - slopes @ mean, *slopes])


def _is_right(image: ScoredCuts) -> NDArray[np.float64]:
    return (image.iou.max(axis=0, initial=0) >= 0.5).astype(float)


def ranked_by(
    images: list[ScoredCuts], scores: list[NDArray[np.float64]]
) -> tuple[float, float, str]:
    """AP and AP50 in percent, and the precision of cuts by their score."""
    found, right = [], []
    for image, score in zip(images, scores, strict=True):
        pairs = [matched(image.iou, -score, threshold) for threshold in IOU_THRESHOLDS]
        flags = [np.stack(part, axis=1) for part in zip(*pairs, strict=True)]
        found.append(flags[0])
        right.append(flags[1])
    order = np.argsort(-np.concatenate(scores), kind='stable')
    num_objects = sum(len(one) for one in found)
    values = average_precision(np.concatenate(right)[order], num_objects)
    every, is_right = np.concatenate(scores), np.concatenate([_is_right(i) for i in images])
    bins = []
    for low, high in zip(_BINS, _BINS[1:], strict=False):
        chosen = (every >= low) & (every < high)
        share = f'{is_right[chosen].mean():.2f}' if chosen.any() else '-'
        bins.append(f'{share} of {chosen.sum()}')
    return 100 * values[0], 100 * values[1], ', '.join(bins)


def main() -> None:
    """Print the coefficients and the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--photos', type=Path, metavar='DIR', help='without: scenes only')
    parser.add_argument('--limit', type=int, metavar='N', help='photos of a half (default all)')
    parser.add_argument('--scenes', type=int, default=40, help='rendered scenes (default 40)')
    parser.add_argument('--held-out', action='store_true', help='show the other half, too')
    parser.add_argument('--cache', type=Path, default=Path(tempfile.gettempdir()) / 'method_study')
    args = parser.parse_args()
    halves = list(SEEDS) if args.held_out else ['choose']
    photos = list(read_photos(args.photos)) if args.photos else []
    results: dict[tuple[str, str], list[ScoredCuts]] = {}
    with get_context('spawn').Pool() as pool:
        for half in halves:
            seed = SEEDS[half]
            scenes = list(make_scenes(args.scenes, seed))
            run = partial(
                collect, kind='color-texture', depth='file', cache=args.cache / f'scenes{seed}'
            )
            results[half, 'scenes, color-texture, exact'] = pool.map(run, scenes, chunksize=2)
            chosen = [image for image in photos if image.half == half][: args.limit]
            for kind in SIMILARITY if chosen else ():
                for depth in ('file', 'true borders'):
                    run = partial(collect, kind=kind, depth=depth, cache=args.cache / 'photos')
                    name = f'photos, {kind}, {depth}'
                    results[half, name] = pool.map(run, chosen, chunksize=2)
    model = fit([images for (half, _), images in results.items() if half == 'choose'])
    for name, value in zip(('bias', *SIGNALS), model, strict=True):
        print(f'{name}: {value:.2f}')
    for half in halves:
        rows = []
        for (of_half, name), images in results.items():
            if of_half != half:
                continue
            rules = {
                'mean confidence': [image.signals[:, 0] for image in images],
                'the same * sqrt(area)': [
                    image.signals[:, 0] * np.sqrt(image.area) for image in images
                ],
                'score': [
                    1 / (1 + np.exp(-(model[0] + image.signals @ model[1:]))) for image in images
                ],
            }
            for rule, scores in rules.items():
                ap, ap50, bins = ranked_by(images, scores)
                rows.append([name, rule, f'{ap:.2f}', f'{ap50:.2f}', bins])
        header = ['images', 'ranked by', 'AP', 'AP50', f'precision by score, bins {_BINS}']
        print(f'\n{half}\n\n{format_table(header, rows)}', flush=True)


if __name__ == '__main__':
    main()
