"""Render scenes of solids with exact masks and depth."""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cuts3d_mm.arrays import Double, Float, Mask, Pixels

SCENE_HW = (300, 400)  # px; not square, so that swapped sizes show
MIN_VISIBLE_RATIO = 0.004  # an object with a smaller share of the image is no instance
_CAMERA_HEIGHT = 1.6  # all lengths in metres
_FOCAL_PER_WIDTH = 0.9
WALL_Z = 14.0
SHAPES = ('sphere', 'box', 'cylinder')
FLOOR, WALL = 0, 1  # labels; solids have labels from 2


@dataclass(frozen=True)
class Scene:
    """A rendered photo with its ground truth."""

    name: str
    image: Pixels  # (H, W, 3) RGB
    depth: Float  # (H, W) metres, larger is farther
    masks: Mask  # (M, H, W) visible part of each instance


def render_scene(rng: np.random.Generator, name: str = 'scene') -> Scene:
    """Render one scene, all of it drawn at random."""
    scene = render_solids(*_compose(rng), camera_rays(SCENE_HW), rng, name, SCENE_HW)
    is_visible = scene.masks.mean(axis=(1, 2)) >= MIN_VISIBLE_RATIO
    return replace(scene, masks=scene.masks[is_visible])


def render_scenes(count: int, seed: int = 0) -> list[Scene]:
    """Render `count` scenes, each from its own random stream of one seed."""
    streams = np.random.SeedSequence(seed).spawn(count)
    return [
        render_scene(np.random.default_rng(stream), f'scene_{index:03d}.png')
        for index, stream in enumerate(streams)
    ]


def render_solids(
    solids: list[Solid],
    textures: list[Texture],
    rays: Rays,
    rng: np.random.Generator,
    name: str,
    image_hw: tuple[int, int],
) -> Scene:
    """Render solids on the floor in front of the wall; the mask of a hidden solid is empty.

    Args:
        solids: solids of the scene.
        textures: textures of floor and wall, then of each solid.
        rays: rays of the camera, for each pixel.
        rng: random generator for the direction of the light and for the noise.
        name: file name without folder.
        image_hw: size in pixels.
    """
    surface = cast_rays(rays, solids, wall_z=WALL_Z)
    image = _shade(surface, textures, rng)
    labels = surface.label.reshape(image_hw)
    masks = np.stack([labels == label for label in range(2, len(solids) + 2)])
    depth = surface.distance_z.reshape(image_hw).astype(np.float32)
    return Scene(name, image.reshape(*image_hw, 3), depth, masks)


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
    """Make rays through the middle of every pixel, row by row."""
    height, width = image_hw
    rows, columns = np.mgrid[:height, :width] + 0.5
    focal = _FOCAL_PER_WIDTH * width
    x = (columns - width / 2) / focal
    y = -(rows - height * 0.42) / focal
    directions = np.stack([x, y, np.ones_like(x)], axis=-1).reshape(-1, 3)
    return Rays(np.array([0.0, _CAMERA_HEIGHT, 0.0]), directions)


def _shade(surface: Surface, textures: list[Texture], rng: np.random.Generator) -> Pixels:
    """Colour surface points, (P, 3), by their texture and one light."""
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


@dataclass(frozen=True)
class Rays:
    """Rays from one eye; the directions have z = 1, so that distance is depth."""

    eye: Double  # (3,)
    directions: Double  # (P, 3)


@dataclass(frozen=True)
class Solid:
    """A solid on the floor, turned around the vertical axis."""

    shape: str  # 'sphere', 'box' or 'cylinder'
    center: tuple[float, float, float]  # metres, y up
    half_size: tuple[float, float, float]  # half extent along its own axes, metres
    yaw: float  # radians


@dataclass(frozen=True)
class Surface:
    """The points where P rays meet floor, wall and solids."""

    distance_z: Double  # (P,) metres along z
    label: NDArray[np.int64]  # (P,) FLOOR, WALL, 2 + index of the solid
    normal: Double  # (P, 3) world, unit length
    local: Double  # (P, 3) position in the object's own axes, metres


def cast_rays(rays: Rays, solids: list[Solid], wall_z: float) -> Surface:
    """Find the nearest of floor (y = 0), back wall and solids along each ray."""
    down = rays.directions[:, 1] < -1e-9
    floor = np.full(len(rays.directions), np.inf)
    floor[down] = -rays.eye[1] / rays.directions[down, 1]
    wall = np.full(len(rays.directions), wall_z - rays.eye[2])
    nearest = np.minimum(floor, wall)
    label = np.where(floor <= wall, FLOOR, WALL)
    local = rays.eye + nearest[:, None] * rays.directions
    normal = np.where((label == FLOOR)[:, None], [0.0, 1.0, 0.0], [0.0, 0.0, -1.0])
    for index, solid in enumerate(solids):
        turn = _turn(solid.yaw)
        eye = (rays.eye - solid.center) @ turn / solid.half_size
        directions = rays.directions @ turn / solid.half_size
        distance, unit_normal = _HITS[solid.shape](eye, directions)
        hit = distance < nearest
        nearest[hit], label[hit] = distance[hit], index + 2
        place = eye + distance[hit, None] * directions[hit]
        local[hit] = place * solid.half_size
        # A normal of the unit shape is scaled by the inverse of the half size.
        outward = (unit_normal[hit] / solid.half_size) @ turn.T
        normal[hit] = outward / np.linalg.norm(outward, axis=1, keepdims=True)
    return Surface(nearest, label, normal, local)


def _turn(yaw: float) -> Double:
    cos, sin = np.cos(yaw), np.sin(yaw)
    return np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]])


_NEAR = 1e-6  # closer hits are the camera itself


def _hit_sphere(eye: Double, directions: Double) -> tuple[Double, Double]:
    distance = _nearer_root(eye, directions, [0, 1, 2])
    return distance, eye + _finite(distance)[:, None] * directions


def _hit_cylinder(eye: Double, directions: Double) -> tuple[Double, Double]:
    side = _nearer_root(eye, directions, [0, 2])
    side[np.abs(eye[1] + _finite(side) * directions[:, 1]) > 1] = np.inf
    with np.errstate(divide='ignore', invalid='ignore'):  # a level ray meets no lid
        cap = (np.sign(eye[1]) - eye[1]) / directions[:, 1]
    place = eye + _finite(cap)[:, None] * directions
    cap[~(cap > _NEAR) | (place[:, 0] ** 2 + place[:, 2] ** 2 > 1)] = np.inf
    distance = np.minimum(side, cap)
    place = eye + _finite(distance)[:, None] * directions
    around = place * [1.0, 0.0, 1.0]
    return distance, np.where((cap < side)[:, None], [0.0, np.sign(eye[1]), 0.0], around)


def _hit_box(eye: Double, directions: Double) -> tuple[Double, Double]:
    with np.errstate(divide='ignore', invalid='ignore'):
        first, second = (-1 - eye) / directions, (1 - eye) / directions
    enter, leave = np.minimum(first, second), np.maximum(first, second)
    distance = enter.max(axis=1)
    distance = np.where((distance > leave.min(axis=1)) | (distance < _NEAR), np.inf, distance)
    axis = enter.argmax(axis=1)
    normal = np.zeros_like(directions)
    index = np.arange(len(axis))
    normal[index, axis] = -np.sign(directions[index, axis])
    return distance, normal


def _nearer_root(eye: Double, directions: Double, axes: list[int]) -> Double:
    """Distance at which a ray enters the unit sphere or tube over some axes; inf if never."""
    squared = (directions[:, axes] ** 2).sum(axis=1)
    half = directions[:, axes] @ eye[axes]
    inner = half**2 - squared * (eye[axes] @ eye[axes] - 1)
    root = (-half - np.sqrt(np.maximum(inner, 0))) / np.maximum(squared, 1e-12)
    return np.where((inner < 0) | (root < _NEAR), np.inf, root)


def _finite(distance: Double) -> Double:
    return np.where(np.isfinite(distance), distance, 0)


_HITS = {'sphere': _hit_sphere, 'box': _hit_box, 'cylinder': _hit_cylinder}


_PATTERN_MIX: dict[str, Callable[[Double], Double]] = {
    'plain': lambda p: np.full(len(p), 0.6),
    'checker': lambda p: np.floor(p).sum(axis=1) % 2,
    'stripes': lambda p: np.floor(p[:, 1]) % 2,
    'dots': lambda p: (((p % 1 - 0.5) ** 2).sum(axis=1) < 0.12).astype(float),
}


@dataclass(frozen=True)
class Texture:
    """Two colours in a pattern, with smooth grain over it."""

    light: tuple[float, float, float]  # RGB in [0, 1]
    dark: tuple[float, float, float]
    pattern: str
    period: float  # metres
    grain_waves: tuple[tuple[float, ...], ...]  # (x, y, z, phase), radians per metre

    def color_at(self, place: Double) -> Double:
        """Compute the colour at (P, 3) positions in metres: (P, 3) RGB in about [0, 1]."""
        mix = _PATTERN_MIX[self.pattern](place / self.period)[:, None]
        color = mix * np.array(self.light) + (1 - mix) * np.array(self.dark)
        waves = np.array(self.grain_waves)
        grain = np.sin(place @ waves[:, :3].T + waves[:, 3]).mean(axis=1)
        return color * (1 + 0.12 * grain[:, None])

    def vary(self, rng: np.random.Generator) -> Texture:
        """Draw a similar texture, for another object of the same class."""
        shift = rng.normal(0, 0.02, 3)
        light, dark = (tuple(np.clip(c + shift, 0, 1)) for c in (self.light, self.dark))
        return replace(self, light=light, dark=dark, grain_waves=_random_waves(rng))


def random_texture(rng: np.random.Generator, saturation: float) -> Texture:
    """Draw a texture in colours of a saturation in [0, 1]."""
    hue = rng.uniform()
    light = colorsys.hsv_to_rgb(hue, saturation, rng.uniform(0.7, 0.95))
    dark = colorsys.hsv_to_rgb((hue + rng.uniform(-0.06, 0.06)) % 1, saturation, 0.5)
    pattern = str(rng.choice(tuple(_PATTERN_MIX)))
    return Texture(light, dark, pattern, rng.uniform(0.12, 0.3), _random_waves(rng))


def _random_waves(rng: np.random.Generator) -> tuple[tuple[float, ...], ...]:
    waves = np.concatenate([rng.normal(0, 9, (6, 3)), rng.uniform(0, 2 * np.pi, (6, 1))], axis=1)
    return tuple(tuple(wave) for wave in waves.tolist())
