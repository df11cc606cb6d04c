"""Find places for labels where they hide no object."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np

from cuts3d_mm.arrays import Mask

Point = tuple[int, int]  # x, y in pixels


def place_labels(masks: Sequence[Mask], sizes_wh: Sequence[Point]) -> list[Point]:
    """Choose a place for the label of each mask, next to it rather than on it.

    Of the places around and in the corners of its box, a label takes the one that hides least
    of any object, itself included, measured as shares of their areas. Labels avoid each other.

    Args:
        masks: (H, W), none of them empty.
        sizes_wh: of each label, in pixels.

    Returns:
        Upper left corner of each label, in the image wherever the label fits into it.
    """
    corners: list[Point] = []
    if not masks:
        return corners
    hidden_share = np.zeros(masks[0].shape)
    for mask in masks:
        hidden_share += mask / mask.sum()
    for mask, size_wh in zip(masks, sizes_wh, strict=True):
        width, height = size_wh
        corner = min(
            _candidates(mask, size_wh),
            key=lambda at: hidden_share[at[1] : at[1] + height, at[0] : at[0] + width].sum(),
        )
        hidden_share[corner[1] : corner[1] + height, corner[0] : corner[0] + width] += 1
        corners.append(corner)
    return corners


def _candidates(mask: Mask, size_wh: Point) -> list[Point]:
    """Places around the box of a mask, then in its corners; above comes first."""
    width, height = size_wh
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    left, right = int(columns[0]), int(columns[-1]) + 1
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    along_x = left, right - width, (left + right - width) // 2
    along_y = top, bottom - height, (top + bottom - height) // 2
    places = [
        *product(along_x, (top - height,)),
        *product(along_x, (bottom,)),
        *product((left - width, right), along_y),
        *product(along_x[:2], along_y[:2]),
    ]
    last_x, last_y = max(0, mask.shape[1] - width), max(0, mask.shape[0] - height)
    return [(min(max(0, x), last_x), min(max(0, y), last_y)) for x, y in places]
