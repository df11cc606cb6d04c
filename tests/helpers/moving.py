"""Render clips in which objects pass in front of one another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from cuts3d_mm.scenes.rendering import (
    SHAPES,
    Scene,
    Solid,
    camera_rays,
    random_texture,
    render_solids,
)

CLIP_HW = (180, 240)  # px
_HALF_WIDTH_AT_1 = 0.5  # metres that are visible to each side, a metre from the camera
_SWING = 0.5  # metres before or behind the steady path, so that the speed of an object changes


@dataclass(frozen=True)
class _Mover:
    """A solid that crosses the picture."""

    solid: Solid
    start_x: float  # metres
    end_x: float
    swings: float  # there and back, over the clip
    phase: float  # radians

    def at(self, share: float) -> Solid:
        """Place the solid after a share of the clip, in [0, 1]."""
        swing = _SWING * np.sin(2 * np.pi * self.swings * share + self.phase)
        x = self.start_x + share * (self.end_x - self.start_x) + swing
        _, y, z = self.solid.center
        return replace(self.solid, center=(float(x), y, z))


def render_clip(
    rng: np.random.Generator, num_frames: int, image_hw: tuple[int, int] = CLIP_HW
) -> Iterator[Scene]:
    """Render a clip of objects that cross the picture at different depths and speeds.

    Args:
        rng: random generator for everything.
        num_frames: length of the clip.
        image_hw: size in pixels.

    Yields:
        A scene for each frame. Its i-th mask always shows the same object; it is empty while the
        object is hidden or out of the picture.
    """
    movers = _movers(rng)
    textures = [random_texture(rng, saturation=0.15) for _ in range(2)]
    textures += [random_texture(rng, saturation=0.8) for _ in movers]
    rays, light_seed = camera_rays(image_hw), int(rng.integers(2**32))
    for number in range(num_frames):
        solids = [mover.at(number / max(1, num_frames - 1)) for mover in movers]
        light, name = np.random.default_rng(light_seed), f'frame_{number:04d}.png'
        yield render_solids(solids, textures, rays, light, name, image_hw)


def _movers(rng: np.random.Generator) -> list[_Mover]:
    """Draw three to five solids, one behind the other, that start from either side."""
    movers = []
    for index in range(int(rng.integers(3, 6))):
        z = 3.5 + 1.3 * index
        half, height = rng.uniform(0.35, 0.6), rng.uniform(0.5, 0.9)
        shape = str(rng.choice(SHAPES))
        height = half if shape == 'sphere' else height
        yaw = rng.uniform(0, np.pi)
        solid = Solid(shape, (0.0, height, z), (half, height, half), yaw)
        side = rng.choice([-1.0, 1.0]) * _HALF_WIDTH_AT_1 * z
        start, end = side * rng.uniform(0.4, 1.1), -side * rng.uniform(0.2, 1.1)
        movers.append(_Mover(solid, start, end, rng.uniform(0.5, 1.5), rng.uniform(0, 2 * np.pi)))
    return movers
