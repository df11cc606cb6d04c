"""Run a generator on single photos, with a depth map where one is given."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np

from cuts3d_mm.arrays import Float, Pixels
from cuts3d_mm.images.reading import NamedImage
from cuts3d_mm.labellers.depth.files import DEPTH_SUFFIXES, DepthFromFile
from cuts3d_mm.labellers.explain import explain_image
from cuts3d_mm.labellers.generator import PseudoLabelGenerator
from cuts3d_mm.labellers.networks import choose_device
from cuts3d_mm.labellers.registry import build_labeller, build_params
from cuts3d_mm.visualization.figures import Stages


class PhotoCutter:
    """Runs a generator config on single photos.

    A config whose depth comes from files takes the map that is given with the photo, or a
    constant one, which means "no 3D". Networks are built once.

    Args:
        model: config of a `PseudoLabelGenerator`.
        device: of its networks.

    Raises:
        ValueError: the config is malformed.
    """

    def __init__(self, model: dict[str, Any], device: str = 'cpu') -> None:
        self._recipe = model.get('recipe') or {}
        self._generator: PseudoLabelGenerator = build_labeller(model).to(choose_device(device))
        self.params = self._generator.params
        self.takes_depth = isinstance(self._generator.depth, DepthFromFile)

    def cut(self, photo: Pixels, depth: Path | None, changes: dict[str, Any]) -> Stages:
        """Cut one photo.

        Args:
            photo: (H, W, 3) uint8 RGB.
            depth: a PNG, NPY, NPZ or PFM file, for configs that take one.
            changes: fields of the recipe that differ, such as `max_instances`.

        Raises:
            ValueError: the depth file is of another kind, or a change is unknown.
            ImageFailure: the depth map cannot be used.
        """
        generator = copy.copy(self._generator)
        generator.params = build_params(_changed(self._recipe, changes))
        return explain_image(generator, NamedImage('photo', photo, self._read(depth)))

    def _read(self, depth: Path | None) -> Float | None:
        source = self._generator.depth
        if not isinstance(source, DepthFromFile):
            return None
        if depth is None:
            return np.ones((2, 2), np.float32)
        if depth.suffix.lower() not in DEPTH_SUFFIXES:
            raise ValueError(f'a depth map must be one of {DEPTH_SUFFIXES}, got {depth.name}')
        return source.read(depth)


def _changed(recipe: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    changed = copy.deepcopy(recipe)
    for name, value in changes.items():
        part, _, field = name.rpartition('.')
        (changed.setdefault(part, {}) if part else changed)[field] = value
    return changed
