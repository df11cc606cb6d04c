"""Turn depth or disparity as it was measured into finite depth, larger is farther."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from cuts3d_mm.algorithm.depth import depth_from_disparity
from cuts3d_mm.arrays import Float, Mask
from cuts3d_mm.images.reading import ImageFailure

LargerIs = Literal['far', 'near']
# Ratio of the sides: more than rounding to a patch makes of a square, less than any common format.
_NEARLY_SQUARE = 1.1


def given_depth(depth: ArrayLike, larger_is: LargerIs = 'far') -> Float:
    """Check and complete a depth map that a caller has measured.

    Args:
        depth: (h, w) of any size and unit; NaN, inf and 0 mean "not measured".
        larger_is: 'far' for depth, 'near' for disparity.

    Raises:
        ValueError: another shape or word.
        ImageFailure: no value is valid.
    """
    check_larger_is(larger_is)
    values = np.asarray(depth, np.float32)
    if values.ndim != 2 or 0 in values.shape:
        raise ValueError(f'depth must be (h, w), got shape {values.shape}')
    return finite_depth(values, larger_is, zero_is_invalid=True, source='depth')


def finite_depth(
    values: Float, larger_is: LargerIs, zero_is_invalid: bool, source: object
) -> Float:
    """Fill what was not measured, and turn disparity into depth.

    Args:
        values: (H, W); NaN, inf and, of disparity, what lies below 0 are invalid.
        larger_is: 'far' for depth, 'near' for disparity.
        zero_is_invalid: whether 0 means "not measured".
        source: where the values come from, for messages.

    Raises:
        ImageFailure: no value is valid.
    """
    valid = np.isfinite(values)
    if zero_is_invalid:
        valid &= values != 0
    if larger_is == 'near':
        valid &= values >= 0
    depth = fill_invalid(values, valid, source)
    return depth_from_disparity(depth) if larger_is == 'near' else depth


def check_larger_is(larger_is: str) -> None:
    """Check the option.

    Raises:
        ValueError: another word.
    """
    if larger_is not in ('far', 'near'):
        raise ValueError(f"larger_is must be 'far' or 'near', got {larger_is!r}")


def require_orientation(depth_hw: tuple[int, ...], image_hw: tuple[int, ...]) -> None:
    """Refuse upright depth for a wide image and the other way round.

    A nearly square map or image fits any other: sizes are rounded.

    Raises:
        ValueError: the longer sides differ.
    """
    sides = _longer_side(depth_hw), _longer_side(image_hw)
    if None not in sides and sides[0] != sides[1]:
        raise ValueError(
            f'depth must lie as the image does, got (height, width) {tuple(depth_hw)} for an '
            f'image of {tuple(image_hw)}; is it transposed, or of an image that EXIF turned?'
        )


def _longer_side(shape: tuple[int, ...]) -> int | None:
    """Axis of the longer side; None of a nearly square shape."""
    height, width = shape
    if max(height, width) <= _NEARLY_SQUARE * min(height, width):
        return None
    return 0 if height > width else 1


def fill_invalid(depth: Float, valid: Mask, source: object) -> Float:
    """Give every invalid pixel of (H, W) depth the value of its nearest valid one.

    Raises:
        ImageFailure: no pixel is valid.
    """
    if valid.all():
        return depth
    if not valid.any():
        raise ImageFailure(f'{source} has no valid pixel')
    from scipy import ndimage  # a quarter of a second that commands need not wait for to start

    nearest = ndimage.distance_transform_edt(~valid, return_distances=False, return_indices=True)
    return depth[tuple(nearest)]
