"""Part two balls of one kind at a depth step, and keep single objects whole.

    python benchmarks/two_balls.py

One ball hides a part of the other; the step between them is a share of the depth range of the
scene. They are parted if two instances match one ball each at IoU 0.5. Single balls, boxes and
cylinders, which have relief but no step, must stay one instance each.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

import cuts3d_mm
from cuts3d_mm.algorithm.masks import mask_iou
from cuts3d_mm.scenes.rendering import (
    SCENE_HW,
    SHAPES,
    WALL_Z,
    Scene,
    Solid,
    camera_rays,
    cast_rays,
    random_texture,
    render_solids,
)
from cuts3d_mm.visualization.charts import format_table

STEPS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3)  # shares of the depth range
CONFIG = 'cuts3d_color-texture_file-depth'
_BIG_SHARE = 0.5  # share of an instance on the object that makes it a part of the object


def two_balls(rng: np.random.Generator, step: float) -> Scene:
    """Place a ball behind another, so that it is hidden by less than a third."""
    nearest = float(rng.uniform(3.6, 4.4))
    empty = cast_rays(camera_rays(SCENE_HW), [], wall_z=WALL_Z).distance_z
    away = step * float(np.ptp(empty))
    radius, side = float(rng.uniform(0.5, 0.65)), float(rng.choice([-1.0, 1.0]))
    behind = nearest + away
    # At equal sizes in the image the farther ball is larger in the world.
    half, far_half = radius, radius * behind / nearest
    x, far_x = -side * 0.75 * radius, side * 0.75 * radius * behind / nearest
    look = random_texture(rng, saturation=0.8)
    ground, wall = (random_texture(rng, saturation=0.15) for _ in range(2))
    solids = [
        Solid('sphere', (x, half, nearest), (half, half, half), 0.0),
        Solid('sphere', (far_x, far_half, behind), (far_half,) * 3, 0.0),
    ]
    textures = [ground, wall, look, look.vary(rng)]
    return render_solids(solids, textures, camera_rays(SCENE_HW), rng, 'balls', SCENE_HW)


def one_object(rng: np.random.Generator, shape: str) -> Scene:
    """Place a single solid, turned at random."""
    half = float(rng.uniform(0.7, 1.0))
    height = half * (1.0 if shape == 'sphere' else float(rng.uniform(1.1, 1.6)))
    place = (float(rng.uniform(-0.8, 0.8)), height, float(rng.uniform(4.0, 6.0)))
    solid = Solid(shape, place, (half, height, half), float(rng.uniform(0, np.pi)))
    textures = [random_texture(rng, saturation=0.15) for _ in range(2)]
    textures.append(random_texture(rng, saturation=0.8))
    return render_solids([solid], textures, camera_rays(SCENE_HW), rng, 'balls', SCENE_HW)


def is_parted(scene: Scene, masks: list[NDArray[np.bool_]]) -> bool:
    """Tell whether each object has an instance of its own, at IoU 0.5."""
    best = [max((mask_iou(mask, true) for mask in masks), default=0.0) for true in scene.masks]
    return len(best) == len(scene.masks) and min(best) >= 0.5


def is_broken(scene: Scene, masks: list[NDArray[np.bool_]]) -> bool:
    """Tell whether a single object is spread over several instances."""
    parts = [mask for mask in masks if (mask & scene.masks[0]).sum() >= _BIG_SHARE * mask.sum()]
    largest = max((int((mask & scene.masks[0]).sum()) for mask in parts), default=0)
    covered = sum(int((mask & scene.masks[0]).sum()) for mask in parts)
    return len(parts) > 1 and largest < 0.8 * covered


def passing_share(
    scenes: list[Scene], test: Callable[[Scene, list[NDArray[np.bool_]]], bool]
) -> str:
    """Percent of scenes that pass a test on the masks that the recipe cuts."""
    generator = cuts3d_mm.load_generator(CONFIG)
    passed = [
        test(scene, [one.mask for one in generator.predict(scene.image, depth=scene.depth)])
        for scene in scenes
    ]
    return f'{100 * sum(passed) / len(scenes):.0f}'


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--scenes', type=int, default=20, help='scenes of each kind (default 20)')
    parser.add_argument('--seed', type=int, default=0, help='seed of the scenes (default 0)')
    args = parser.parse_args()
    streams = np.random.SeedSequence(args.seed).spawn(args.scenes)
    rows = []
    for step in STEPS:
        scenes = [two_balls(np.random.default_rng(stream), step) for stream in streams]
        name = f'two balls, step of {100 * step:g} % of the range'
        rows.append([name, 'parted', passing_share(scenes, is_parted)])
    for shape in SHAPES:
        scenes = [one_object(np.random.default_rng(stream), shape) for stream in streams]
        rows.append([f'one {shape}', 'broken', passing_share(scenes, is_broken)])
    print(format_table(['scene', 'what', '%'], rows))


if __name__ == '__main__':
    main()
