"""Class-agnostic mask AP of recipe variants on rendered scenes and on annotated photos.

This made the tables of configs/pseudo_labels/README.md:

    python benchmarks/recipe_table.py --photos DIR --workers 2

DIR holds images/, depth/ (larger is farther) and instances.json.
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmengine.config import Config
from threadpoolctl import threadpool_limits

from cuts3d_mm.algorithm.cut_instances import cut_instances
from cuts3d_mm.configs import find_config
from cuts3d_mm.demo.datasets import scenes_to_coco
from cuts3d_mm.evaluation.label_scores import score_labels
from cuts3d_mm.images.listing import list_images
from cuts3d_mm.images.reading import NamedImage, read_image, resize_rgb
from cuts3d_mm.labellers.depth.file import DepthFromFile
from cuts3d_mm.labellers.generator import PseudoLabelGenerator, RecipeInputs, build_params
from cuts3d_mm.labels.ground_truth import read_ground_truth
from cuts3d_mm.labels.record import ImageRecord, encode_instance
from cuts3d_mm.registry import MODELS
from cuts3d_mm.scenes.rendering import render_scenes
from cuts3d_mm.visualization.tables import format_table

CONFIG = 'cuts3d_color-texture_file-depth.py'
SCENE_SEED = 7  # not the demo's scenes
METRICS = ('AP', 'AP50', 'AR100')

# name -> changes of the shipped recipe, as dotted keys
VARIANTS: dict[str, dict[str, Any]] = {
    'MaskCut': {'preset': 'maskcut'},
    'shipped': {},
    'pair rule mean': {'importance.pair_rule': 'mean'},
    'pair rule max': {'importance.pair_rule': 'max'},
    'no sharpening': {'importance': None},
    'beta 0.2': {'importance.beta': 0.2},
    'tau_ncut 0.3': {'ncut.tau_ncut': 0.3},
    'sigma 1.5': {'importance.sigma_patches': 1.5},
    'sigma 6': {'importance.sigma_patches': 6.0},
    'capacity margin': {'local_cut.capacity': 'margin'},
    'capacity distance': {'local_cut.capacity': 'distance'},
    'terminals single': {'local_cut.terminals': 'single'},
    'terminals regional, 5 %': {'local_cut.terminal_fraction': 0.05},
    'k 5': {'local_cut.num_neighbors': 5},
    'k 20': {'local_cut.num_neighbors': 20},
    'tau_knn 0.05': {'local_cut.tau_knn': 0.05},
    'tau_knn 0.08': {'local_cut.tau_knn': 0.08},
    'tau_knn 0.115': {'local_cut.tau_knn': 0.115},
    'tau_knn 0.2': {'local_cut.tau_knn': 0.2},
    'outside far': {'local_cut.outside': 'far'},
    'T 12': {'confidence.num_cuts': 12},
    'smallest 1 %, from the 2nd cut': {'min_area_ratio': 0.01, 'min_area_from_cut': 1},
    'smallest 1 %': {'min_area_ratio': 0.01},
    'smallest 4 %': {'min_area_ratio': 0.04},
    'rejected cuts count': {'count_rejected': True},
    'rejected cuts stay': {'count_rejected': True, 'remove_rejected': False},
    'depth area': {'depth_resize': 'area'},
    'depth clipped 1 %': {'depth_clip_percent': 1.0},
}


@dataclass(frozen=True)
class Job:
    """One image and where it comes from."""

    kind: str  # 'scenes' or 'photos'
    named: NamedImage
    depth: np.ndarray


def variant_recipe(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Apply dotted changes to a recipe; another preset starts afresh."""
    if 'preset' in changes:
        return {**changes, 'refine': {'method': base['refine']['method']}}
    config = Config({'recipe': base})
    config.merge_from_dict({f'recipe.{key}': value for key, value in changes.items()})
    return config.to_dict()['recipe']


def label(job: Job, model: dict[str, Any], recipes: dict[str, dict[str, Any]]) -> dict:
    """Label one image by all recipes; the features are computed once."""
    threadpool_limits(1)
    cv2.setNumThreads(1)
    generator: PseudoLabelGenerator = MODELS.build({**model, 'recipe': {'preset': 'maskcut'}})
    resized = resize_rgb(job.named.pixels, generator.input_hw)
    image_hw = job.named.pixels.shape[:2]
    inputs = RecipeInputs(generator.features([resized])[0], job.depth, resized, image_hw)
    records = {}
    for name, recipe in recipes.items():
        found = cut_instances(inputs.features, job.depth, resized, image_hw, build_params(recipe))
        instances = tuple(encode_instance(i.mask, None, i.score) for i in found)
        records[name] = ImageRecord(job.named.name, image_hw, instances)
    return records


def scene_jobs(count: int) -> tuple[list[Job], dict]:
    """Rendered scenes and their ground truth."""
    scenes = render_scenes(count, SCENE_SEED)
    jobs = [Job('scenes', NamedImage(s.name, s.image), s.depth) for s in scenes]
    return jobs, scenes_to_coco(scenes)


def photo_jobs(folder: Path) -> tuple[list[Job], dict]:
    """Annotated photos and their ground truth."""
    listed = list_images(folder / 'images')
    read_depth = DepthFromFile(str(folder / 'depth'))
    named = [NamedImage(name, read_image(listed.root / name)) for name in listed.names]
    jobs = [Job('photos', one, read_depth([one])[0]) for one in named]
    return jobs, read_ground_truth(folder / 'instances.json')


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--photos', type=Path, metavar='DIR')
    parser.add_argument('--scenes', type=int, default=30)
    parser.add_argument('--workers', type=int, default=2)
    parser.add_argument(
        '--refine', default='none', help="'permutohedral' takes four times as long (default none)"
    )
    parser.add_argument('--only', nargs='+', metavar='NAME', help='some of the variants')
    args = parser.parse_args()
    model = Config.fromfile(str(find_config(CONFIG))).to_dict()['model']
    model['depth'] = None
    chosen = {name: VARIANTS[name] for name in args.only or VARIANTS}
    base = variant_recipe(model['recipe'], {'refine.method': args.refine})
    recipes = {name: variant_recipe(base, changes) for name, changes in chosen.items()}
    sets = {'scenes': scene_jobs(args.scenes)}
    if args.photos is not None:
        sets['photos'] = photo_jobs(args.photos)
    scores: dict[str, list[str]] = {name: [name] for name in recipes}
    with ProcessPoolExecutor(args.workers) as pool:
        for jobs, truth in sets.values():
            work = partial(label, model=model, recipes=recipes)
            records = list(pool.map(work, jobs, chunksize=4))
            for name, row in scores.items():
                figures = score_labels([r[name] for r in records], truth)['segm']
                row += [f'{100 * figures[metric]:.2f}' for metric in METRICS]
    header = ['variant', *(f'{kind} {metric}' for kind in sets for metric in METRICS)]
    print(format_table(header, list(scores.values())))
    print(json.dumps({'scenes': args.scenes, 'config': CONFIG}))


if __name__ == '__main__':
    main()
