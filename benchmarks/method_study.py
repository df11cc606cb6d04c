"""Compare recipes on the patch grid, paired over images, with bootstrap intervals.

    python benchmarks/method_study.py --photos DIR [--half held-out] [--earlier REVISION]

DIR holds images/, depth/ (larger is farther) and instances.json. One table per question: which
recipe finds most, what LocalCut does to given 2D cuts, and what the confidence says. Values are
chosen on the half `choose`; `held-out` is for one last look. With --earlier, differences are to
the recipe that a revision of this repository recommended.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
from study_data import (
    DEPTHS,
    HALVES,
    SIMILARITY,
    StudyImage,
    cached_features,
    make_scenes,
    read_photos,
)
from study_scores import change_of_fixed_cuts, score_earlier, score_image
from study_tables import confidence_table, fixed_cut_table, recipe_table
from threadpoolctl import threadpool_limits

from cuts3d_mm.algorithm.params import (
    CutParams,
    ImportanceParams,
    LocalCutParams,
    NcutParams,
)

_CUTS3D = CutParams()
# What earlier versions of the package recommended.
_FORMER = replace(
    _CUTS3D,
    max_instances=3,
    max_eigenvalue=None,
    ncut=NcutParams(claimed='epsilon'),
    background=None,
    score=None,
)
RECIPES = {
    'MaskCut': CutParams.maskcut(),
    'paper': CutParams.paper(),
    'paper_v3': CutParams.paper_v3(),
    'paper_letter': CutParams.paper_letter(),
    'cuts3d': _CUTS3D,
    'cuts3d, no LocalCut': replace(_CUTS3D, local_cut=None),
    'cuts3d, N = 3': replace(_CUTS3D, max_instances=3),
    'cuts3d, N = 10 without a stop': replace(_CUTS3D, max_eigenvalue=None),
    'cuts3d, claimed patches stay': replace(_CUTS3D, ncut=NcutParams(claimed='epsilon')),
    'cuts3d, no evidence test': replace(
        _CUTS3D, local_cut=replace(LocalCutParams(), tau_knn=0.115, evidence=None)
    ),
    'cuts3d, log depth': replace(_CUTS3D, depth_function='log'),
    'cuts3d, inverse depth': replace(_CUTS3D, depth_function='inverse'),
    'cuts3d, mean confidence as score': replace(_CUTS3D, score=None),
    'cuts3d, no background rule': replace(_CUTS3D, background=None),
    'cuts3d, beta 0.45': replace(_CUTS3D, importance=ImportanceParams(beta=0.45)),
    'cuts3d, no sharpening': replace(_CUTS3D, importance=None),
    'cuts3d, no clipping of depth': replace(_CUTS3D, depth_outlier_spans=None),
    'N = 3, claimed patches stay': _FORMER,
}


def study_image(
    image: StudyImage,
    kind: str,
    depth: str,
    recipes: list[str],
    cache: Path,
    earlier: str | None = None,
) -> dict[str, Any]:
    """Score every recipe on one image."""
    threadpool_limits(1)
    cv2.setNumThreads(1)
    features = cached_features(image, kind, cache)
    arrays, similarity = (features, image.depth_of(depth)), SIMILARITY[kind]
    results: dict[str, Any] = {}
    if earlier is not None:
        results[earlier] = score_earlier(earlier, image, *arrays, similarity), None
    for name in recipes:
        params = RECIPES[name]
        score = score_image(image, *arrays, params, similarity)
        change = None
        if params.local_cut is not None:
            change = change_of_fixed_cuts(image, *arrays, params, similarity)
        results[name] = score, change
    return results


def print_tables(images: list[StudyImage], run: Callable[[StudyImage], Any], title: str) -> None:
    """Run all recipes on all images and print one table per question."""
    with get_context('spawn').Pool() as pool:
        results = pool.map(run, images, chunksize=4)
    names = list(results[0])
    scores = {name: [result[name][0] for result in results] for name in names}
    changes = {
        name: [result[name][1] for result in results]
        for name in names
        if results[0][name][1] is not None
    }
    print(f'\n## {title}\n\nRecipes, percent\n\n{recipe_table(scores)}')
    print(f'\nLocalCut on the same 2D cuts, best IoU in percent\n\n{fixed_cut_table(changes)}')
    print(f'\nConfidence\n\n{confidence_table(scores)}')


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--photos', type=Path, metavar='DIR', help='without: scenes only')
    parser.add_argument('--half', choices=HALVES, default='choose', help='default choose')
    parser.add_argument('--limit', type=int, metavar='N', help='images of a half (default all)')
    parser.add_argument('--scenes', type=int, default=40, help='rendered scenes (default 40)')
    parser.add_argument('--seed', type=int, default=7, help='seed of the scenes (default 7)')
    parser.add_argument('--features', nargs='+', choices=SIMILARITY, default=list(SIMILARITY))
    parser.add_argument('--depths', nargs='+', choices=DEPTHS, default=list(DEPTHS[:2]))
    parser.add_argument('--recipes', nargs='+', choices=RECIPES, default=list(RECIPES))
    parser.add_argument('--skip', type=int, default=0, metavar='N', help='first images left out')
    parser.add_argument('--earlier', metavar='REVISION', help='e.g. e71dc07')
    parser.add_argument('--cache', type=Path, default=Path(tempfile.gettempdir()) / 'method_study')
    return parser.parse_args()


def main() -> None:
    """Print the tables per kind of features, images and depth."""
    args = parse_args()
    sets = {'scenes': list(make_scenes(args.scenes, args.seed)) if args.scenes else []}
    if args.photos is not None:
        sets['photos'] = list(read_photos(args.photos))
    for kind in args.features:
        note = ' (features trained with labels, for analysis only)' * (kind == 'semantic')
        for name, images in sets.items():
            chosen = [image for image in images if image.half == args.half]
            chosen = chosen[args.skip :][: args.limit]
            # Objects of a scene have true borders as they are.
            depths = args.depths if name == 'photos' else [d for d in args.depths if d == 'file']
            for depth in depths if chosen else []:
                run = partial(
                    study_image,
                    kind=kind,
                    depth=depth,
                    recipes=args.recipes,
                    cache=args.cache / (f'scenes{args.seed}' if name == 'scenes' else name),
                    earlier=args.earlier,
                )
                title = f'{kind}{note}; {len(chosen)} {name}, half {args.half}; depth: {depth}'
                print_tables(chosen, run, title)


if __name__ == '__main__':
    main()
