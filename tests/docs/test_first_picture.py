"""What the caption of the first picture claims."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest
from helpers.drawn import iou

import cuts3d_mm
from cuts3d_mm.demo.photos import motorcycle
from cuts3d_mm.scenes.rendering import render_scenes

DRAWN = runpy.run_path(str(Path(__file__).parents[2] / 'docs/figures/first_picture.py'))
FLAT, IN_3D = DRAWN['_RECIPES'].values()


def masks_of(config, scene, **depth):
    return [one.mask for one in cuts3d_mm.load_generator(config).predict(scene.image, **depth)]


@pytest.mark.slow
def test_the_balls_are_an_object_in_2d_and_two_in_3d():
    *_, scene = render_scenes(DRAWN['_SCENE'] + 1)
    balls = list(scene.masks)
    flat, in_3d = masks_of(FLAT, scene), masks_of(IN_3D, scene, depth=scene.depth)
    assert max(iou(mask, balls[0] | balls[1]) for mask in flat) > 0.9
    assert all(max(iou(mask, ball) for mask in in_3d) > 0.9 for ball in balls)


@pytest.mark.slow
def test_the_tank_is_found_in_3d_and_the_floor_in_2d():
    scene = motorcycle()
    red, green, blue = np.moveaxis(scene.image.astype(int), 2, 0)
    is_red = (red > 120) & (red > 2 * green) & (red > 2 * blue)
    flat = masks_of(FLAT, scene)
    in_3d = masks_of(IN_3D, scene, depth=scene.depth, larger_is='near')
    assert (
        max(is_red[mask].mean() for mask in in_3d)
        > 0.6
        > max(is_red[mask].mean() for mask in flat)
    )
    below = np.zeros(is_red.shape, bool)
    below[int(0.6 * len(below)) :] = True
    assert max((mask & below).sum() / below.sum() for mask in flat) > 0.4
