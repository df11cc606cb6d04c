"""Refine patch masks along image edges and bring them to the original image size."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cuts3d_mm.algorithm.crf import refine_masks, refine_masks_pydensecrf
from cuts3d_mm.algorithm.masks import (
    enlarge_patches,
    fill_holes,
    mask_iou,
    resize_bicubic,
    resize_linear,
)
from cuts3d_mm.algorithm.params import RefineParams
from cuts3d_mm.arrays import Mask


def refine_to_image(
    patch_masks: list[Mask],
    image: NDArray[np.uint8],
    image_hw: tuple[int, int],
    params: RefineParams,
) -> list[Mask | None]:
    """Refine patch masks along the image's edges and bring them to its original size.

    Args:
        patch_masks: (h, w) masks.
        image: (H'', W'', 3) uint8 RGB, resized.
        image_hw: size of the masks to return.

    Returns:
        One (H, W) mask per patch mask; None where refinement changed it beyond
        `params.min_iou` or left nothing at the original size.
    """
    if not patch_masks:
        return []
    enlarged = np.stack([enlarge_patches(mask, image.shape[:2]) for mask in patch_masks])
    if params.method == 'permutohedral':
        refined = refine_masks(enlarged, image, params.crf)
    elif params.method == 'pydensecrf':
        refined = refine_masks_pydensecrf(enlarged, image, params.crf)
    else:
        refined = enlarged
    resize = resize_linear if params.resize == 'linear' else resize_bicubic
    results: list[Mask | None] = []
    for before, after in zip(enlarged, refined, strict=True):
        filled = fill_holes(after)
        resized = resize(filled, image_hw) if mask_iou(before, filled) >= params.min_iou else None
        results.append(resized if resized is not None and resized.any() else None)
    return results
