"""Describe patches by their colour and texture, without weights.

The embedded default, for the demo, for tests and for a first look without a download. The
features of a self-supervised ViT are far better on photos.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cuts3d_mm.algorithm.params import Similarity
from cuts3d_mm.arrays import Pixels
from cuts3d_mm.labellers.registry import FEATURES

Array = NDArray[Any]  # float32; OpenCV's annotations say no more


@FEATURES.register_module()
class ColorTextureFeatures:
    """Smoothed colour and texture energy, compared by exp(-distance^2 / 2).

    Args:
        patch_size (int): Side of a patch in pixels. Defaults to 8.
        smooth_patches (float): Gaussian blur of the descriptors, patches. Defaults to 1.0.
        color_scale (float): Colour difference in CIELAB units at which the kernel falls to
            0.61. Defaults to 12.0.
        texture_scale (float): The same for log texture energy. Defaults to 1.2.
        position_scale (float): The same for position, in sides of the image; large means
            position does not count. Defaults to 0.4.
    """

    similarity: Similarity = 'gaussian'
    position_channels = 2  # the last of a patch; they say where it is, not what it looks like

    def __init__(
        self,
        patch_size: int = 8,
        smooth_patches: float = 1.0,
        color_scale: float = 12.0,
        texture_scale: float = 1.2,
        position_scale: float = 0.4,
    ) -> None:
        self.patch_size = patch_size
        self.smooth_patches = smooth_patches
        self.scales = (color_scale, texture_scale, position_scale)

    def to(self, device: str) -> object:
        """Do nothing: there is no network."""
        return self

    def __call__(self, images: list[Pixels]) -> list[Array]:
        """Describe the patches of (H, W, 3) uint8 RGB images.

        Returns:
            (H // patch, W // patch, 9) float32 each: 3 colour, 4 texture, 2 position values.
        """
        return [self._describe(image) for image in images]

    def _describe(self, image: Pixels) -> Array:
        size, smooth_patches = self.patch_size, self.smooth_patches
        grid_hw = image.shape[0] // size, image.shape[1] // size
        if min(grid_hw) < 1:
            raise ValueError(f'image must be at least {size} px on each side, got {image.shape}')
        lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
        energies = [_pool(e, grid_hw, smooth_patches) for e in _texture_energies(lab[..., 0])]
        texture = np.log(np.stack(energies, axis=-1) + 1)
        color = _pool(lab, grid_hw, smooth_patches)
        rows, columns = np.mgrid[: grid_hw[0], : grid_hw[1]].astype(np.float32)
        position = np.stack([rows / grid_hw[0], columns / grid_hw[1]], axis=-1)
        parts = zip((color, texture, position), self.scales, strict=True)
        return np.concatenate([part / scale for part, scale in parts], axis=-1).astype(np.float32)


def _texture_energies(lightness: Array) -> list[Array]:
    """Squared derivatives of (H, W) lightness: x and y, at a fine and a coarse scale."""
    energies = []
    for sigma_px in (1.0, 3.0):
        smooth = cv2.GaussianBlur(lightness, (0, 0), sigma_px)
        for axes in ((1, 0), (0, 1)):
            energies.append(cv2.Sobel(smooth, cv2.CV_32F, *axes, ksize=3, scale=sigma_px) ** 2)
    return energies


def _pool(values: Array, grid_hw: tuple[int, int], smooth_patches: float) -> Array:
    pooled = cv2.resize(values, grid_hw[::-1], interpolation=cv2.INTER_AREA)
    if smooth_patches <= 0:
        return pooled
    return cv2.GaussianBlur(pooled, (0, 0), smooth_patches)
