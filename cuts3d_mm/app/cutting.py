"""Cut photos that a visitor uploads, and keep the stages of the recipe."""

from __future__ import annotations

import copy
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from cuts3d_mm.arrays import Pixels
from cuts3d_mm.images.reading import NamedImage
from cuts3d_mm.labellers.build import build_labeller
from cuts3d_mm.labellers.depth.file import DEPTH_SUFFIXES
from cuts3d_mm.labellers.explain import explain_image
from cuts3d_mm.labellers.generator import build_params
from cuts3d_mm.visualization.stages import Stages

_NAME = 'photo.png'


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
        self._model, self._device = model, device
        self.params = build_params(model.get('recipe') or {})
        depth = model.get('depth') or {}
        self.takes_depth = str(depth.get('type', '')).endswith('DepthFromFile')
        self._generator = None if self.takes_depth else build_labeller(model).to(device)

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
        image = NamedImage(_NAME, photo)
        if self._generator is not None:
            generator = copy.copy(self._generator)
            generator.params = build_params(self._changed(changes, None)['recipe'])
            return explain_image(generator, image)
        with tempfile.TemporaryDirectory() as folder:
            _place_depth(depth, Path(folder))
            generator = build_labeller(self._changed(changes, folder)).to(self._device)
            return explain_image(generator, image)

    def _changed(self, changes: dict[str, Any], depth_root: str | None) -> dict[str, Any]:
        model = copy.deepcopy(self._model)
        recipe = model.setdefault('recipe', {})
        for name, value in changes.items():
            part, _, field = name.rpartition('.')
            (recipe.setdefault(part, {}) if part else recipe)[field] = value
        if depth_root is not None:
            model['depth']['root'] = depth_root
        return model


def _place_depth(depth: Path | None, folder: Path) -> None:
    """Put the depth map where `DepthFromFile` looks for it."""
    target = folder / _NAME
    if depth is None:
        np.save(target.with_suffix('.npy'), np.ones((2, 2), np.float32))
        return
    if depth.suffix.lower() not in DEPTH_SUFFIXES:
        raise ValueError(f'a depth map must be one of {DEPTH_SUFFIXES}, got {depth.name}')
    shutil.copyfile(depth, target.with_suffix(depth.suffix.lower()))
