"""Measure what bfloat16 does to the head of ZoeDepth, and features in it to the masks.

    python benchmarks/half_precision.py [--photos DIR] [--num 20]

The head is that of transformers, which needs no weights. DIR holds images/, depth/ (larger is
farther) and instances.json. The features are those of `semantic_features.py`, an ImageNet
classifier: **trained with labels and for analysis only**. It runs on the CPU, in float32 and in
bfloat16; the depth is the same. Masks are compared on the patch grid, without CRF.
"""

from __future__ import annotations

import argparse
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from study_data import StudyImage, read_photos
from study_scores import score_image
from study_tables import gain_interval
from threadpoolctl import threadpool_limits

from cuts3d_mm.algorithm.cut_instances import cut_patches, link_image
from cuts3d_mm.algorithm.masks import mask_iou
from cuts3d_mm.algorithm.params import PRESETS, CutParams
from cuts3d_mm.visualization.charts import format_table

_INPUTS, _BINS = 4096, 64  # pixels from near to far; bins of ZoeDepth
_TEMPERATURES = (0.5, 0.1, 0.02)  # ZoeDepth's lie between 0.0212 and 50


def main() -> None:
    """Print the tables."""
    args = parse_args()
    rows = [head_row(temperature) for temperature in _TEMPERATURES]
    header = ['temperature', 'depths, float32', 'largest step', 'bfloat16', 'largest step']
    print(f'Head of ZoeDepth, {_INPUTS} inputs\n\n{format_table(header, rows)}')
    if args.photos is not None:
        print_masks(args)


def head_row(temperature: float) -> list[str]:
    """Different depths that the head gives in both precisions, and the largest step."""
    figures = []
    for dtype in (torch.float32, torch.bfloat16):
        depths = head_depths(dtype, temperature).unique()
        figures += [str(len(depths)), f'{100 * float(depths.diff().max()):.2f} %']
    return [f'{temperature:g}', *figures]


def head_depths(dtype: torch.dtype, temperature: float) -> torch.Tensor:
    """Depth in [0, 1] of the range of the bins, (inputs,)."""
    from transformers.models.zoedepth.modeling_zoedepth import LogBinomialSoftmax

    head, near = LogBinomialSoftmax(_BINS), torch.linspace(0.02, 0.98, _INPUTS)
    head.k_idx, head.k_minus_1 = head.k_idx.to(dtype), head.k_minus_1.to(dtype)
    share = near.to(dtype) / (near.to(dtype) + (1 - near).to(dtype))
    weights = head(share[None, None], torch.tensor(temperature, dtype=dtype))
    centers = torch.linspace(0, 1, _BINS).to(dtype).view(1, -1, 1, 1)
    return (weights * centers).sum(1).flatten().float()


def print_masks(args: argparse.Namespace) -> None:
    """Print a row for each recipe."""
    from semantic_features import WARNING, SemanticFeatures  # from a wheel of its own

    threadpool_limits(1)
    cv2.setNumThreads(1)
    images = list(islice(read_photos(args.photos), args.num))
    exact, half = SemanticFeatures(), SemanticFeatures(half=True)
    features = [(exact(image.resized), half(image.resized)) for image in images]
    rows = [row(name, images, features) for name in args.recipes]
    header = ['recipe', 'best IoU, float32', 'bfloat16', 'difference (95 %)', 'IoU of masks']
    print(f'\n{len(images)} photos; {WARNING}\n\n{format_table(header, rows)}')


def row(name: str, images: list[StudyImage], features: list[tuple[NDArray, NDArray]]) -> list[str]:
    """Mean best IoU per object with both precisions, and how much the masks agree."""
    params = PRESETS[name]()
    sides = [
        [score_image(i, f[side], i.depth, params) for i, f in zip(images, features, strict=True)]
        for side in (0, 1)
    ]
    means = [100 * np.mean(np.concatenate([one.best_iou for one in side])) for side in sides]
    gain, low, high = gain_interval(*sides)
    agreements = [
        agreement(image, pair, params) for image, pair in zip(images, features, strict=True)
    ]
    agreed = np.concatenate(agreements)
    return [
        name,
        *(f'{mean:.2f}' for mean in means),
        f'{gain:+.2f} [{low:+.2f}, {high:+.2f}]',
        f'{agreed.mean():.2f} ({len(agreed)} masks)',
    ]


def agreement(
    image: StudyImage, features: tuple[NDArray, NDArray], params: CutParams
) -> NDArray[np.float64]:
    """Best IoU of each float32 mask with a bfloat16 mask."""
    exact, half = (
        [cut.mask for cut in cut_patches(link_image(one, image.depth, params), params).instances]
        for one in features
    )
    return np.array([max((mask_iou(one, other) for other in half), default=0.0) for one in exact])


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--photos', type=Path, metavar='DIR', help='see above; without: the head alone'
    )
    parser.add_argument('--num', type=int, default=20, help='photos (default 20)')
    parser.add_argument('--recipes', nargs='+', choices=PRESETS, default=['cuts3d', 'maskcut'])
    return parser.parse_args()


if __name__ == '__main__':
    main()
