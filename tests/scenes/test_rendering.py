from __future__ import annotations

import numpy as np
import pytest

from cuts3d_mm.scenes.rendering import (
    SCENE_HW,
    Rays,
    Solid,
    cast_rays,
    render_scene,
    render_scenes,
)


def rays(*directions):
    return Rays(np.array([0.0, 1.0, 0.0]), np.array(directions, float))


def test_floor_and_wall_are_met_at_their_distance():
    surface = cast_rays(rays([0, -0.5, 1], [0, 0.2, 1]), [], wall_z=10)
    assert surface.distance_z.tolist() == [2.0, 10.0] and surface.label.tolist() == [0, 1]


@pytest.mark.parametrize('shape', ['sphere', 'box', 'cylinder'])
def test_solid_is_met_at_its_front(shape):
    solid = Solid(shape, (0, 1, 5), (0.5, 1, 0.5), 0.0)
    surface = cast_rays(rays([0, 0, 1], [0.3, 0, 1]), [solid], wall_z=10)
    assert surface.distance_z[0] == pytest.approx(4.5)
    assert surface.label.tolist() == [2, 1]
    assert np.allclose(surface.normal[0], [0, 0, -1], atol=1e-6)


def test_cylinder_has_a_lid():
    solid = Solid('cylinder', (0, 0.25, 2), (0.5, 0.25, 0.5), 0.0)
    surface = cast_rays(rays([0, -0.25, 1]), [solid], wall_z=10)
    assert surface.distance_z[0] == pytest.approx(2) and surface.normal[0].tolist() == [0, 1, 0]


def test_nearer_solid_hides_the_farther():
    solids = [Solid('sphere', (0, 1, z), (0.5, 0.5, 0.5), 0.0) for z in (6, 3)]
    assert cast_rays(rays([0, 0, 1]), solids, wall_z=10).label.tolist() == [3]


def test_scene_has_exact_masks_without_overlap(rng):
    scene = render_scene(rng)
    assert scene.image.shape == (*SCENE_HW, 3) and scene.depth.shape == SCENE_HW
    assert len(scene.masks) >= 2 and scene.masks.sum(axis=0).max() == 1
    assert np.isfinite(scene.depth).all() and scene.depth.min() > 0


def test_touching_objects_stand_at_different_depths(rng):
    scene = render_scene(rng)
    depths = sorted(float(np.median(scene.depth[mask])) for mask in scene.masks)
    assert depths[-1] - depths[0] > 1.0


@pytest.mark.slow
def test_same_seed_is_the_same_scene_in_any_number():
    few, many = render_scenes(2, seed=3), render_scenes(4, seed=3)
    assert all((a.image == b.image).all() for a, b in zip(few, many, strict=False))
