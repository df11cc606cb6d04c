"""Render random scenes with exact depth and instance masks.

Each scene holds a group of same-class solids, one in front of another, so that a cut in 2D
merges them and a cut in 3D need not. Rays are intersected analytically; everything is drawn
from one random generator.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cuts3d_mm.arrays import Float, Mask, Pixels
from cuts3d_mm.scenes.solids import Rays, Solid, Surface, cast_rays
from cuts3d_mm.scenes.textures import Texture, random_texture

SCENE_HW = (300, 400)  # px; not square, so that swapped sizes show
MIN_VISIBLE_RATIO = 0.004  # an object that shows less of itself is no instance
_CAMERA_HEIGHT = 1.6  # all lengths in metres
_FOCAL_PER_WIDTH = 0.9
WALL_Z = 14.0
SHAPES = ('sphere', 'box', 'cylinder')


@dataclass(frozen=True)
class Scene:
    """A rendered photo with its ground truth."""

    name: str
    image: Pixels  # (H, W, 3) RGB
    depth: Float  # (H, W) metres, larger is farther
    masks: Mask  # (M, H, W) visible part of each instance


def render_scene(
    rng: np.random.Generator, name: str = 'scene', image_hw: tuple[int, int] = SCENE_HW
) -> Scene:
    """Render one scene.

    Args:
        rng: source of everything random.
        name: file name without folder.
        image_hw: size in pixels.
    """
    solids, textures = _compose(rng)
    rays = camera_rays(image_hw)
    surface = cast_rays(rays, solids, wall_z=WALL_Z)
    image = shade(rays, surface, textures, rng)
    labels = surface.label.reshape(image_hw)
    masks = np.stack([labels == label for label in range(2, len(solids) + 2)])
    visible = masks.reshape(len(masks), -1).mean(axis=1) >= MIN_VISIBLE_RATIO
    depth = surface.distance_z.reshape(image_hw).astype(np.float32)
    return Scene(name, image.reshape(*image_hw, 3), depth, masks[visible])


def render_scenes(count: int, seed: int = 0) -> list[Scene]:
    """Render `count` scenes, each from its own stream of one seed."""
    streams = np.random.SeedSequence(seed).spawn(count)
    return [
        render_scene(np.random.default_rng(stream), f'scene_{index:03d}.png')
        for index, stream in enumerate(streams)
    ]


def _compose(rng: np.random.Generator) -> tuple[list[Solid], list[Texture]]:
    """Place one or two groups of same-class solids; textures: floor, wall, then solids."""
    floor, wall = random_texture(rng, saturation=0.15), random_texture(rng, saturation=0.15)
    solids: list[Solid] = []
    textures = [floor, wall]
    num_groups = int(rng.integers(1, 3))
    middles = rng.permutation([-1.2, 1.3])[:num_groups] if num_groups > 1 else [0.0]
    for middle in middles:
        look = random_texture(rng, saturation=0.8)
        for solid in _group(rng, float(middle), str(rng.choice(SHAPES))):
            solids.append(solid)
            textures.append(look.vary(rng))
    return solids, textures


def _group(rng: np.random.Generator, middle_x: float, shape: str) -> list[Solid]:
    """Line two to three solids of one class up in depth, each partly hiding the next."""
    solids = []
    z = rng.uniform(3.6, 4.4)
    side = rng.choice([-1.0, 1.0])
    size = rng.uniform(0.5, 0.65)
    count = int(rng.integers(2, 4))
    for index in range(count):
        # At equal image offsets the farther solids stand farther apart in the world.
        x = (middle_x + side * 0.85 * (index - (count - 1) / 2)) * z / 4.4
        half = size * rng.uniform(0.9, 1.15) * (1 + 0.25 * index)
        height = half * (1.0 if shape == 'sphere' else rng.uniform(1.1, 1.6))
        solids.append(Solid(shape, (x, height, z), (half, height, half), rng.uniform(0, np.pi)))
        z += rng.uniform(2.0, 2.8)
    return solids


def camera_rays(image_hw: tuple[int, int]) -> Rays:
    """Rays through the middle of every pixel, row by row."""
    height, width = image_hw
    rows, columns = np.mgrid[:height, :width] + 0.5
    focal = _FOCAL_PER_WIDTH * width
    x = (columns - width / 2) / focal
    y = -(rows - height * 0.42) / focal
    directions = np.stack([x, y, np.ones_like(x)], axis=-1).reshape(-1, 3)
    return Rays(np.array([0.0, _CAMERA_HEIGHT, 0.0]), directions)


def shade(
    rays: Rays, surface: Surface, textures: list[Texture], rng: np.random.Generator
) -> Pixels:
    """Colour what the rays meet, (P, 3), by its texture and one light.

    Args:
        rays: of the camera.
        surface: what they meet.
        textures: of floor and wall, then of each solid.
        rng: of the direction of the light and of the noise.
    """
    light = np.array([rng.uniform(-0.6, 0.6), 1.0, -0.8])
    light /= np.linalg.norm(light)
    diffuse = np.clip(surface.normal @ light, 0, 1)
    color = np.empty((len(surface.label), 3))
    for label, texture in enumerate(textures):
        hit = surface.label == label
        color[hit] = texture.color_at(surface.local[hit])
    color *= (0.55 + 0.45 * diffuse)[:, None]
    color += rng.normal(0, 0.012, color.shape)
    return (np.clip(color, 0, 1) * 255).astype(np.uint8)
