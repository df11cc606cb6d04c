"""Draw when 3D helps: the gain over 2D by quality of depth and of features.

    python benchmarks/depth_quality.py --photos DIR --out docs/pictures/depth_quality.png

Left: rendered scenes whose objects all share one feature, with noise. Right: photos of DIR
(images/, depth/, instances.json). The depth, whose borders are exact, is blurred more and more.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from functools import partial
from multiprocessing import Pool
from pathlib import Path

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from study_data import (
    HALVES,
    SIMILARITY,
    StudyImage,
    blur_depth,
    cached_features,
    make_scenes,
    read_photos,
)
from study_scores import ImageScore, score_image
from study_tables import gain_interval
from threadpoolctl import threadpool_limits

from cuts3d_mm.algorithm.params import CutParams, Similarity

_BLURS = (0, 1, 2, 4, 8)  # sigma of the blur of depth, patches
_NOISES = (0.5, 2.0, 4.0)  # noise of a feature, against an embedding of unit variance
_NUM_CHANNELS = 48
_SCENE_SEED = 11
_IN_3D = CutParams()
_IN_2D = replace(_IN_3D, importance=None, local_cut=None)

Pair = tuple[ImageScore, ImageScore]  # in 2D and in 3D


def class_features(image: StudyImage, noise: float) -> NDArray[np.float32]:
    """One embedding for all objects, one for the rest, with noise, (h, w, C)."""
    rng = np.random.default_rng(int(image.name.split('_')[-1].split('.')[0]))
    embeddings = rng.standard_normal((2, _NUM_CHANNELS))
    is_object = image.objects.sum(0) > 0.5
    features = embeddings[is_object.astype(int)]
    return (features + noise * rng.standard_normal(features.shape)).astype(np.float32)


def score_scene(image: StudyImage, noise: float) -> list[Pair]:
    """Scores at every blur of the exact depth."""
    return _score(image, class_features(image, noise), image.depth, 'cosine')


def score_photo(image: StudyImage, kind: str, cache: Path) -> list[Pair]:
    """Scores at every blur of depth with true borders; the last is for the depth as it is."""
    features = cached_features(image, kind, cache)
    exact = _score(image, features, image.depth_of('true borders'), SIMILARITY[kind])
    given = score_image(image, features, image.depth, _IN_3D, SIMILARITY[kind])
    return [*exact, (exact[0][0], given)]


def _score(
    image: StudyImage, features: NDArray[np.float32], depth: NDArray, similarity: Similarity
) -> list[Pair]:
    threadpool_limits(1)
    cv2.setNumThreads(1)
    in_2d = score_image(image, features, depth, _IN_2D, similarity)
    blurred = [blur_depth(depth, blur) for blur in _BLURS]
    return [(in_2d, score_image(image, features, d, _IN_3D, similarity)) for d in blurred]


def draw(curves: dict[str, list[list[Pair]]], axis: Axes, title: str) -> None:
    """Draw a line per kind of features, with 95 % intervals over images."""
    for color, (name, images) in enumerate(curves.items()):
        gains = np.array([gain_interval(*zip(*pairs)) for pairs in zip(*images)])  # noqa: B905
        exact = gains[: len(_BLURS)]
        axis.plot(exact[:, 0], 'o-', color=f'C{color}', label=name)
        axis.fill_between(range(len(_BLURS)), *exact[:, 1:].T, color=f'C{color}', alpha=0.2)
        if len(gains) > len(_BLURS):
            value, low, high = gains[-1]
            middle = len(_BLURS) + 0.2 * color
            axis.errorbar(
                middle, value, [[value - low], [high - value]], fmt='s', color=f'C{color}'
            )
        print(title, name, np.round(gains, 2).tolist(), flush=True)
    axis.axhline(0, color='gray', linewidth=1)
    labels = [str(blur) for blur in _BLURS]
    ticks = list(range(len(_BLURS)))
    if any(len(images[0]) > len(_BLURS) for images in curves.values()):
        ticks, labels = [*ticks, len(_BLURS) + 0.1], [*labels, 'network']
    axis.set_xticks(ticks, labels)
    axis.set(title=title, xlabel='depth with true borders, blurred by (patches)')
    axis.legend()


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--photos', type=Path, metavar='DIR', help='without: scenes only')
    parser.add_argument('--half', choices=HALVES, default='choose', help='default choose')
    parser.add_argument('--scenes', type=int, default=40, help='rendered scenes (default 40)')
    parser.add_argument('--out', type=Path, default=Path('depth_quality.png'))
    parser.add_argument('--cache', type=Path, default=Path(tempfile.gettempdir()) / 'method_study')
    return parser.parse_args()


def main() -> None:
    """Measure and draw."""
    args = parse_args()
    figure = Figure(figsize=(11, 4.2), layout='constrained')
    axes = figure.subplots(1, 2 if args.photos else 1, squeeze=False)[0]
    with Pool() as pool:
        scenes = list(make_scenes(args.scenes, _SCENE_SEED))
        runs = {f'noise {n:g}': partial(score_scene, noise=n) for n in _NOISES}
        curves = {name: pool.map(run, scenes, chunksize=4) for name, run in runs.items()}
        draw(curves, axes[0], f'{len(scenes)} rendered scenes, all objects alike')
        axes[0].set_ylabel('gain in mean best IoU per object (points)')
        if args.photos:
            photos = [image for image in read_photos(args.photos) if image.half == args.half]
            names = {
                'color-texture': 'hand-made features',
                'semantic': 'ImageNet CNN (trained with labels, for analysis only)',
            }
            cache = args.cache / 'photos'
            curves = {
                label: pool.map(partial(score_photo, kind=kind, cache=cache), photos, chunksize=4)
                for kind, label in names.items()
            }
            draw(curves, axes[1], f'{len(photos)} COCO photos')
    figure.savefig(args.out, dpi=110)


if __name__ == '__main__':
    main()
