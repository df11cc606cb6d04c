"""Read the depth of an image from a file of the same name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from cuts3d_mm.arrays import Float
from cuts3d_mm.images.reading import ImageFailure, NamedImage
from cuts3d_mm.labellers.depth.file_formats import UnusableDepth, read_depth
from cuts3d_mm.labellers.depth.values import (
    LargerIs,
    check_larger_is,
    finite_depth,
    require_orientation,
)
from cuts3d_mm.labellers.registry import DEPTH

DEPTH_SUFFIXES = ('.png', '.npy', '.npz', '.pfm')
_CONFIG_2D = 'maskcut_color-texture'


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
        larger_is: LargerIs = 'far',
        zero_is_invalid: bool = True,
    ) -> None:
        check_larger_is(larger_is)
        self.root = Path(root)
        self.larger_is = larger_is
        self.zero_is_invalid = zero_is_invalid

    def to(self, device: str) -> object:
        """Do nothing: there is no network."""
        return self

    def __call__(self, images: Sequence[NamedImage]) -> list[Float]:
        """Read the depth map of each image, (H', W') of any size, finite.

        Raises:
            ImageFailure: a map is missing, unreadable, has no valid pixel or is upright where
                the image is wide, or the other way round.
        """
        return [self._of_image(image) for image in images]

    def read(self, path: Path) -> Float:
        """Read one depth map, wherever it is.

        Raises:
            ImageFailure: it is unreadable or has no valid pixel.
        """
        try:
            values = read_depth(path)
        except UnusableDepth as error:
            raise ImageFailure(f'depth map {path} {error}') from error
        return finite_depth(values, self.larger_is, self.zero_is_invalid, f'depth map {path}')

    def _of_image(self, image: NamedImage) -> Float:
        path = self._find(image.name)
        depth = self.read(path)
        try:
            require_orientation(depth.shape, image.pixels.shape[:2])
        except ValueError as error:
            raise ImageFailure(f'depth map {path}: {error}') from error
        return depth

    def _find(self, name: str) -> Path:
        if not name or not self.root.is_dir():
            raise ValueError(
                'depth must be given with the image, as predict(image, depth=array): this config '
                f'reads it from files in {self.root}; in 2D, without depth, cuts {_CONFIG_2D}'
            )
        stem = self.root / PurePosixPath(name).with_suffix('')
        # Not with_suffix: 'a.b.jpg' must find 'a.b.png'.
        paths = (stem.with_name(stem.name + suffix) for suffix in DEPTH_SUFFIXES)
        path = next((path for path in paths if path.is_file()), None)
        if path is None:
            raise ImageFailure(f'no depth map {stem}.{{png,npy,npz,pfm}}')
        return path
