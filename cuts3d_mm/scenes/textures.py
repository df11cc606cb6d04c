"""Colour surfaces by random textures."""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from cuts3d_mm.arrays import Double

_PATTERNS = ('plain', 'checker', 'stripes', 'dots')


@dataclass(frozen=True)
class Texture:
    """Two colours in a pattern, with smooth grain over it."""

    light: tuple[float, float, float]  # RGB in [0, 1]
    dark: tuple[float, float, float]
    pattern: str
    period: float  # metres
    grain_waves: tuple[tuple[float, ...], ...]  # (x, y, z, phase), radians per metre

    def color_at(self, place: Double) -> Double:
        """Colour at (P, 3) positions in metres, (P, 3) RGB in about [0, 1]."""
        mix = _PATTERN_MIX[self.pattern](place / self.period)[:, None]
        color = mix * np.array(self.light) + (1 - mix) * np.array(self.dark)
        waves = np.array(self.grain_waves)
        grain = np.sin(place @ waves[:, :3].T + waves[:, 3]).mean(axis=1)
        return color * (1 + 0.12 * grain[:, None])

    def vary(self, rng: np.random.Generator) -> Texture:
        """Draw a sibling: the same class of object, not the same object."""
        shift = rng.normal(0, 0.02, 3)
        light, dark = (tuple(np.clip(c + shift, 0, 1)) for c in (self.light, self.dark))
        return replace(self, light=light, dark=dark, grain_waves=_random_waves(rng))


def random_texture(rng: np.random.Generator, saturation: float) -> Texture:
    """Draw a texture.

    Args:
        saturation: of its colours, in [0, 1].
    """
    hue = rng.uniform()
    light = colorsys.hsv_to_rgb(hue, saturation, rng.uniform(0.7, 0.95))
    dark = colorsys.hsv_to_rgb((hue + rng.uniform(-0.06, 0.06)) % 1, saturation, 0.5)
    pattern = str(rng.choice(_PATTERNS))
    return Texture(light, dark, pattern, rng.uniform(0.12, 0.3), _random_waves(rng))


def _random_waves(rng: np.random.Generator) -> tuple[tuple[float, ...], ...]:
    waves = np.concatenate([rng.normal(0, 9, (6, 3)), rng.uniform(0, 2 * np.pi, (6, 1))], axis=1)
    return tuple(tuple(wave) for wave in waves.tolist())


_PATTERN_MIX: dict[str, Callable[[Double], Double]] = {
    'plain': lambda p: np.full(len(p), 0.6),
    'checker': lambda p: np.floor(p).sum(axis=1) % 2,
    'stripes': lambda p: np.floor(p[:, 1]) % 2,
    'dots': lambda p: (((p % 1 - 0.5) ** 2).sum(axis=1) < 0.12).astype(float),
}
