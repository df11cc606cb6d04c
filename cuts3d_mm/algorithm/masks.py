"""Small operations on boolean masks: overlap, components, holes, boxes, resizing."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cuts3d_mm.arrays import Index, Mask

from .kernels.kernel import Kernel


def mask_iou(first: Mask, second: Mask) -> float:
    """Intersection over union of two masks of one shape; 0 where both are empty."""
    union = np.count_nonzero(first | second)
    return np.count_nonzero(first & second) / union if union else 0.0


def component_of(mask: Mask, row_column: tuple[int, int]) -> Mask:
    """Keep the 4-connected component of a (h, w) mask that holds one pixel of it.

    Raises:
        ValueError: the pixel lies outside the mask.
    """
    if not mask[row_column]:
        raise ValueError(f'pixel {row_column} must lie inside the mask')
    seed = row_column[0] * mask.shape[1] + row_column[1]
    return _flood(np.ascontiguousarray(mask), np.array([seed]))


def component_at(mask: Mask, seed: int, grid_hw: tuple[int, ...]) -> Mask:
    """Keep the 4-connected component of (N,) patches that holds one of them."""
    return component_of(mask.reshape(grid_hw), divmod(seed, grid_hw[1])).ravel()


def fill_holes(mask: Mask) -> Mask:
    """Fill the background regions of a (H, W) mask that do not touch its border."""
    width, size = mask.shape[1], mask.size
    columns, rows = np.arange(width), np.arange(0, size, width)
    border = np.concatenate([columns, size - 1 - columns, rows, rows + width - 1])
    return ~_flood(np.ascontiguousarray(~mask), border)


def enlarge_patches(mask: NDArray[Any], image_hw: tuple[int, int]) -> NDArray[Any]:
    """Enlarge a (h, w) patch map to pixels by nearest neighbour.

    Args:
        mask: (h, w) any dtype.
        image_hw: pixel size; need not be a multiple of the patch grid.
    """
    rows, columns = (np.arange(n) * g // n for n, g in zip(image_hw, mask.shape, strict=True))
    return mask[rows[:, None], columns]


def patches_touched(mask: Mask, grid_hw: tuple[int, ...]) -> Mask:
    """Mark the patches of a (h, w) grid that hold at least one pixel of a (H, W) mask."""
    rows, columns = np.nonzero(mask)
    touched = np.zeros(grid_hw, bool)
    touched[rows * grid_hw[0] // mask.shape[0], columns * grid_hw[1] // mask.shape[1]] = True
    return touched


def box_xywh(mask: Mask) -> tuple[int, int, int, int]:
    """Tight box of a (H, W) mask in pixels: left, top, width, height; zeros if empty."""
    rows = np.flatnonzero(mask.any(axis=1))
    columns = np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        return 0, 0, 0, 0
    left, top = int(columns[0]), int(rows[0])
    return left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top


def resize_linear(mask: Mask, image_hw: tuple[int, int]) -> Mask:
    """Resize a (H, W) mask by bilinear interpolation and cut it at one half.

    Works row by row of the output in blocks, so that a mask of 100 megapixels needs no
    float copy of itself.
    """
    if mask.shape == image_hw:
        return mask.copy()
    source = mask.astype(np.float32)
    left, right, share = _sample_positions(image_hw[1], mask.shape[1])
    columns = source[:, left] * (1 - share) + source[:, right] * share
    top, bottom, weight = _sample_positions(image_hw[0], mask.shape[0])
    resized = np.empty(image_hw, bool)
    for start in range(0, image_hw[0], 256):
        block = slice(start, start + 256)
        share = weight[block, None]
        resized[block] = columns[top[block]] * (1 - share) + columns[bottom[block]] * share > 0.5
    return resized


def resize_bicubic(mask: Mask, image_hw: tuple[int, int]) -> Mask:
    """Resize a (H, W) mask as an 8-bit image, bicubically with antialiasing, as MaskCut does.

    The mask is cut at half of the resized maximum.
    """
    picture = Image.fromarray(mask.astype(np.uint8) * 255)
    resized = np.asarray(picture.resize(image_hw[::-1], Image.Resampling.BICUBIC))
    return resized > resized.max() / 2


def _sample_positions(
    size: int, source_size: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    position = np.clip((np.arange(size) + 0.5) * source_size / size - 0.5, 0, source_size - 1)
    low = position.astype(np.intp)
    return low, np.minimum(low + 1, source_size - 1), (position - low).astype(np.float32)


def _flood_plain(is_open: Mask, seeds: Index) -> Mask:
    from scipy import ndimage  # a quarter of a second that compiled code need not take

    labels, count = ndimage.label(is_open)
    is_reached = np.zeros(count + 1, bool)
    is_reached[labels.ravel()[seeds]] = True
    is_reached[0] = False  # the label of all closed pixels
    return is_reached[labels]


_flood = Kernel('flood_fill.flood', _flood_plain)
