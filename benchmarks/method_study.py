"""Compare recipes on the patch grid, paired over images, with bootstrap intervals.

    python benchmarks/method_study.py --photos DIR

DIR holds images/, depth/ (larger is farther) and instances.json. Values are chosen on the half
`choose`; the half `held-out` is for one last look.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata, spearmanr
from study_data import (
    HALVES,
    SIMILARITY,
    StudyImage,
    cached_features,
    extractor,
    make_scenes,
    read_photos,
)
from threadpoolctl import threadpool_limits

from cuts3d_mm.algorithm.cut_patches import cut_patches
from cuts3d_mm.algorithm.params import (
    ConfidenceParams,
    CutParams,
    EvidenceParams,
    ImportanceParams,
    LocalCutParams,
    Similarity,
)
from cuts3d_mm.visualization.tables import format_table

_IOU_THRESHOLDS = np.arange(0.5, 0.96, 0.05)
_RESAMPLES = 2000
_SCENE_SEED = 7  # not the demo's scenes

_GRID = CutParams(
    local_cut=LocalCutParams(neighborhood='grid', capacity='step', evidence=EvidenceParams()),
    confidence=ConfidenceParams(8, 0.025, 'geometric', terminal_fraction=0.05),
)
RECIPES = {
    'MaskCut': CutParams.maskcut(),
    'paper': CutParams.paper(),
    'cuts3d': CutParams(),
    'cuts3d, no LocalCut': CutParams(local_cut=None),
    'grid': _GRID,
    'grid, beta 0.2': replace(_GRID, importance=ImportanceParams(beta=0.2)),
    'grid, no sharpening': replace(_GRID, importance=None),
}


@dataclass(frozen=True)
class ImageScore:
    """How one recipe did on one image."""

    found: float  # objects matched, mean over the IoU thresholds
    found_50: int  # objects matched at IoU 0.5
    best_iou: float  # summed over the objects
    num_objects: int
    cuts: tuple[tuple[float, float, float], ...]  # score, best IoU and patch AUC of each


def score_image(
    image: StudyImage,
    features: NDArray,
    depth: NDArray,
    params: CutParams,
    similarity: Similarity = 'cosine',
) -> ImageScore:
    """Cut an image and compare with its objects."""
    objects = image.objects.reshape(len(image.masks), -1)
    cuts = cut_patches(features, depth, params, similarity).accepted
    if not cuts:
        return ImageScore(0, 0, 0, len(objects), ())
    masks = np.array([cut.mask.ravel() for cut in cuts])
    shared = objects @ masks.T.astype(np.float32)
    union = objects.sum(1)[:, None] + masks.sum(1) - shared
    iou = shared / np.maximum(union, 1e-9)
    matched = [_num_matched(iou, threshold) for threshold in _IOU_THRESHOLDS]
    rows = []
    for index, cut in enumerate(cuts):
        confidence = cut.confidence.ravel()[masks[index]]
        best = iou[:, index].argmax()
        auc = _auc(confidence, objects[best][masks[index]] > 0.5)
        rows.append((float(confidence.mean()), float(iou[best, index]), auc))
    best_iou = float(iou.max(1).sum())
    return ImageScore(float(np.mean(matched)), matched[0], best_iou, len(objects), tuple(rows))


def _num_matched(iou: NDArray, threshold: float) -> int:
    """Match cuts in their order, each with the best object that is still free."""
    is_free = np.ones(len(iou), bool)
    for column in iou.T:
        best = int(np.argmax(np.where(is_free, column, -1)))
        if is_free[best] and column[best] >= threshold:
            is_free[best] = False
    return int((~is_free).sum())


def _auc(values: NDArray, is_positive: NDArray[np.bool_]) -> float:
    num_positive, num_negative = is_positive.sum(), (~is_positive).sum()
    if not num_positive or not num_negative:
        return float('nan')
    ranks = rankdata(values)[is_positive].sum()
    return float((ranks - num_positive * (num_positive + 1) / 2) / (num_positive * num_negative))


def table_of(scores: dict[str, list[ImageScore]]) -> str:
    """One row per recipe; differences are to the first, with 95 % intervals over images."""
    count = len(next(iter(scores.values())))
    draws = np.random.default_rng(0).integers(0, count, (_RESAMPLES, count))
    header = ['recipe', 'AR100', 'to MaskCut', 'recall .5', 'best IoU', 'to MaskCut', 'cuts']
    header += ['patch AUC', 'rank corr.', 'score 1']
    rows, first = [], None
    for name, images in scores.items():
        sums = np.array([(s.found, s.found_50, s.best_iou, s.num_objects) for s in images])
        totals = np.concatenate([sums.sum(0, keepdims=True), sums[draws].sum(1)])
        ratios = 100 * totals[:, :3] / totals[:, 3:]
        first = ratios if first is None else first
        differences = [_interval(ratios[:, c] - first[:, c]) for c in (0, 2)]
        cuts = np.array([cut for s in images for cut in s.cuts]).reshape(-1, 3)
        rho = spearmanr(cuts[:, 0], cuts[:, 1])[0] if len(set(cuts[:, 0])) > 1 else float('nan')
        rows.append(
            [
                name,
                f'{ratios[0, 0]:.2f}',
                differences[0],
                f'{ratios[0, 1]:.2f}',
                f'{ratios[0, 2]:.2f}',
                differences[1],
                f'{len(cuts) / count:.2f}',
                f'{np.nanmean(cuts[:, 2]):.3f}',
                f'{rho:+.2f}',
                f'{100 * np.mean(cuts[:, 0] > 0.9999):.0f} %',
            ]
        )
    return format_table(header, rows)


def _interval(differences: NDArray) -> str:
    low, high = np.quantile(differences[1:], (0.025, 0.975))
    return f'{differences[0]:+.2f} [{low:+.2f}, {high:+.2f}]'


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--photos', type=Path, metavar='DIR', help='without: scenes only')
    parser.add_argument('--half', choices=HALVES, default='choose', help='default choose')
    parser.add_argument('--scenes', type=int, default=40, help='rendered scenes (default 40)')
    parser.add_argument('--features', nargs='+', default=['semantic', 'color-texture'])
    parser.add_argument('--recipes', nargs='+', choices=RECIPES, default=list(RECIPES))
    parser.add_argument('--cache', type=Path, default=Path(tempfile.gettempdir()) / 'method_study')
    return parser.parse_args()


def main() -> None:
    """Print one table per features, images and depth."""
    args = parse_args()
    threadpool_limits(1)
    cv2.setNumThreads(1)
    sets = {'scenes': (list(make_scenes(args.scenes, _SCENE_SEED)), ['file'])}
    if args.photos is not None:
        sets['photos'] = (list(read_photos(args.photos)), ['file', 'true borders'])
    for kind in args.features:
        extract = extractor(kind)
        for name, (images, depths) in sets.items():
            chosen = [image for image in images if image.half == args.half]
            for depth in depths:
                scores: dict[str, list[ImageScore]] = {recipe: [] for recipe in args.recipes}
                for image in chosen:
                    features = cached_features(image, kind, extract, args.cache / name)
                    for recipe, results in scores.items():
                        arrays = features, image.depth_of(depth)
                        results.append(
                            score_image(image, *arrays, RECIPES[recipe], SIMILARITY[kind])
                        )
                note = ' (features trained with labels, for analysis only)' * (kind == 'semantic')
                print(f'\n{kind}{note}; {len(chosen)} {name}, half {args.half}; depth: {depth}')
                print(table_of(scores), flush=True)


if __name__ == '__main__':
    main()
