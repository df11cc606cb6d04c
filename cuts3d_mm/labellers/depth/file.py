"""Read the depth of an image from a file of the same name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
from scipy import ndimage

from cuts3d_mm.algorithm.disparity import depth_from_disparity
from cuts3d_mm.arrays import Float, Mask
from cuts3d_mm.images.reading import ImageFailure, NamedImage
from cuts3d_mm.labellers.depth.file_formats import UnusableDepth, read_depth
from cuts3d_mm.labellers.registry import DEPTH

DEPTH_SUFFIXES = ('.png', '.npy', '.npz', '.pfm')


@DEPTH.register_module()
class DepthFromFile:
    """Read the depth of `a/b.jpg` from `root/a/b.png`, `.npy`, `.npz` or `.pfm`.

    PNG may have 8 or 16 bits; an NPZ must hold one array. NaN, inf and 0 are invalid and
    filled from the nearest valid pixel. A map may have `MAX_DEPTH_PIXELS` pixels.

    Args:
        root (str): Folder of the depth maps.
        larger_is (str): 'far' for depth, 'near' for disparity or inverse depth, which becomes
            depth as `depth_from_disparity` says; below 0 it is invalid. Defaults to 'far'.
        zero_is_invalid (bool): Whether 0 means "no depth". Defaults to True.
    """

    FOLDER_ARGUMENT = 'root'  # the argument that --depth sets

    def __init__(
        self,
        root: str,
        larger_is: Literal['far', 'near'] = 'far',
        zero_is_invalid: bool = True,
    ) -> None:
        if larger_is not in ('far', 'near'):
            raise ValueError(f"larger_is must be 'far' or 'near', got {larger_is!r}")
        if not Path(root).is_dir():
            raise ValueError(f'depth folder must exist, got {root}; name one with --depth DIR')
        self.root = Path(root)
        self.larger_is = larger_is
        self.zero_is_invalid = zero_is_invalid

    def to(self, device: str) -> object:
        """Do nothing: there is no network."""
        return self

    def __call__(self, images: Sequence[NamedImage]) -> list[Float]:
        """Read the depth map of each image, (H', W') of any size, finite.

        Raises:
            ImageFailure: a map is missing, unreadable or has no valid pixel.
        """
        return [self._read(image.name) for image in images]

    def _read(self, name: str) -> Float:
        stem = self.root / PurePosixPath(name).with_suffix('')
        # Not with_suffix: 'a.b.jpg' must find 'a.b.png'.
        paths = (stem.with_name(stem.name + suffix) for suffix in DEPTH_SUFFIXES)
        path = next((path for path in paths if path.is_file()), None)
        if path is None:
            raise ImageFailure(f'no depth map {stem}.{{png,npy,npz,pfm}}')
        try:
            depth = read_depth(path)
        except UnusableDepth as error:
            raise ImageFailure(f'depth map {path} {error}') from error
        valid = np.isfinite(depth)
        if self.zero_is_invalid:
            valid &= depth != 0
        if self.larger_is == 'near':
            valid &= depth >= 0
        depth = fill_invalid(depth, valid, path)
        return depth_from_disparity(depth) if self.larger_is == 'near' else depth


def fill_invalid(depth: Float, valid: Mask, source: object) -> Float:
    """Give every invalid pixel of (H, W) depth the value of its nearest valid one.

    Raises:
        ImageFailure: no pixel is valid.
    """
    if valid.all():
        return depth
    if not valid.any():
        raise ImageFailure(f'depth map {source} has no valid pixel')
    nearest = ndimage.distance_transform_edt(~valid, return_distances=False, return_indices=True)
    return depth[tuple(nearest)]
