"""Photos with depth that come with the packages, as files."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cuts3d_mm.app.interface import Example
from cuts3d_mm.arrays import Pixels
from cuts3d_mm.demo.datasets import motorcycle
from cuts3d_mm.scenes.rendering import render_scenes


def write_examples(folder: Path) -> list[Example]:
    """Write a rendered scene and, where scikit-image is installed, a real photo."""
    scene = render_scenes(1, seed=3)[0]
    examples = [_write(folder / scene.name, scene.image, scene.depth)]
    if find_spec('skimage') is not None:
        photo = motorcycle()
        with np.errstate(divide='ignore'):  # no disparity: no depth, filled when it is read
            examples.append(_write(folder / photo.name, photo.image, 1 / photo.depth))
    return examples


def _write(path: Path, photo: Pixels, depth: NDArray[np.floating]) -> Example:
    Image.fromarray(photo).save(path)
    np.save(path.with_suffix('.npy'), depth)
    return Example(path, path.with_suffix('.npy'))
