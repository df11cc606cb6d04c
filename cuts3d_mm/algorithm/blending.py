"""Blend pasted instances into an image: the arithmetic of copy-paste."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cuts3d_mm.algorithm.confidence_map import CONFIDENCE_STEPS, Steps
from cuts3d_mm.arrays import Mask

Picture = NDArray[Any]


def blend(source: Picture, target: Picture, alpha: Steps) -> Picture:
    """Alpha-blend a source onto a target (Eq. 5).

    Args:
        source: (h, w, C) uint8 or float.
        target: of the same shape and type.
        alpha: (h, w) share of the source in steps of 1/255. 255 is exactly the source, 0
            exactly the target.

    Returns:
        Of the target's shape and type; 8-bit values are rounded.
    """
    if source.dtype != np.uint8:
        share = (alpha / np.float32(CONFIDENCE_STEPS))[..., None]
        return (share * source + (1 - share) * target).astype(target.dtype)
    share = alpha[..., None].astype(np.uint16)
    mixed = share * source + (CONFIDENCE_STEPS - share) * target
    mixed += CONFIDENCE_STEPS // 2
    mixed //= CONFIDENCE_STEPS
    return mixed.astype(np.uint8)


def paste_alpha(masks: Mask, confidence: Steps) -> Steps:
    """Share of the source in each pixel: the confidence inside the masks, 0 outside.

    Args:
        masks: (K, h, w) of the pasted instances.
        confidence: (K, h, w) in steps of 1/255.

    Returns:
        (h, w); where masks overlap, the largest.
    """
    return np.where(masks, confidence, 0).max(axis=0, initial=0).astype(np.uint8)


def may_be_pasted(pasted: Mask, existing: Mask, areas: NDArray[Any], max_cover: float) -> Mask:
    """Whether each instance leaves enough of all existing ones visible (CutLER).

    Args:
        pasted: (K, h, w) masks to be pasted, in a window of the image.
        existing: (N, h, w) masks of the image in the same window.
        areas: (N,) pixels of the existing masks in the whole image.
        max_cover: an instance that covers this share of an existing one, or more, is dropped.

    Returns:
        (K,) bool; False too for an empty mask.
    """
    visible: Mask = np.asarray(pasted.any(axis=(1, 2)))
    if len(existing) == 0 or not visible.any():
        return visible
    flat = existing.reshape(len(existing), -1)
    limits = max_cover * np.maximum(areas, 1)
    for index in np.flatnonzero(visible):
        covered = np.count_nonzero(flat & pasted[index].ravel(), axis=1)
        visible[index] = bool((covered < limits).all())
    return visible
