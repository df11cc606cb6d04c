r"""Measure and draw when 3D helps: the gain over 2D by quality of depth and of features.

    python benchmarks/depth_quality.py --photos DIR --scenes 24 \
        --out benchmarks/depth_quality.json
    python benchmarks/depth_quality.py --draw benchmarks/depth_quality.json \
        --out docs/pictures/depth_quality.png

The page on the method takes its figures from the same file.

Above: rendered scenes whose objects all share one feature, with noise. Below: photos of DIR
(images/, depth/, instances.json). The depth, whose borders are exact, is blurred more and more.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from functools import partial
from multiprocessing import Pool
from pathlib import Path

import cv2
import numpy as np
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


def gains_of(images: list[list[Pair]]) -> list[list[float]]:
    """Gain at every depth with its 95 % interval over images: points, lowest, highest."""
    gains = (gain_interval(*zip(*pairs)) for pairs in zip(*images))  # noqa: B905
    return [[round(float(value), 2) for value in gain] for gain in gains]


def draw(panels: dict[str, dict[str, list[list[float]]]], out: Path) -> None:
    """Draw a panel per kind of images, and a line per kind of features."""
    figure = Figure(figsize=(6.4, 3.4 * len(panels)), layout='constrained')
    axes = figure.subplots(len(panels), squeeze=False)[:, 0]
    for axis, (title, curves) in zip(axes, panels.items(), strict=True):
        for color, (name, found) in enumerate(curves.items()):
            gains = np.array(found)
            exact, *others = np.split(gains, [len(_BLURS)])
            axis.plot(exact[:, 0], 'o-', color=f'C{color}', label=name)
            axis.fill_between(range(len(_BLURS)), *exact[:, 1:].T, color=f'C{color}', alpha=0.2)
            for value, low, high in others[0]:
                middle, error = len(_BLURS) + 0.2 * color, [[value - low], [high - value]]
                axis.errorbar(middle, value, error, fmt='s', color=f'C{color}')
        axis.axhline(0, color='gray', linewidth=1)
        labels = [*map(str, _BLURS), 'network'][: len(gains)]
        axis.set_xticks(range(len(labels)), labels)
        axis.set(title=title, xlabel='blur of the depth (patches)')
        axis.set_ylabel('gain in best IoU per object (points)')
        axis.legend()
    figure.savefig(out, dpi=120)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--photos', type=Path, metavar='DIR', help='without: scenes only')
    parser.add_argument('--half', choices=HALVES, default='choose', help='default choose')
    parser.add_argument('--scenes', type=int, default=40, help='rendered scenes (default 40)')
    parser.add_argument('--out', type=Path, default=Path('depth_quality.json'))
    parser.add_argument('--draw', type=Path, metavar='JSON', help='draw what was measured')
    parser.add_argument('--cache', type=Path, default=Path(tempfile.gettempdir()) / 'method_study')
    return parser.parse_args()


def main() -> None:
    """Measure, or draw what was measured."""
    args = parse_args()
    if args.draw:
        draw(json.loads(args.draw.read_text()), args.out)
        return
    panels = {}
    with Pool() as pool:
        scenes = list(make_scenes(args.scenes, _SCENE_SEED))
        runs = {f'noise {n:g}': partial(score_scene, noise=n) for n in _NOISES}
        panels[f'{len(scenes)} rendered scenes'] = {
            name: gains_of(pool.map(run, scenes, chunksize=4)) for name, run in runs.items()
        }
        if args.photos:
            photos = [image for image in read_photos(args.photos) if image.half == args.half]
            names = {'color-texture': 'hand-made features', 'semantic': 'ImageNet CNN'}
            cache = args.cache / 'photos'
            panels[f'{len(photos)} COCO photos'] = {
                label: gains_of(
                    pool.map(partial(score_photo, kind=kind, cache=cache), photos, chunksize=4)
                )
                for kind, label in names.items()
            }
    args.out.write_text(json.dumps(panels, indent=1))


if __name__ == '__main__':
    main()
