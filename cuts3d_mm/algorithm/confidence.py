"""Turn confidence into doubt, and blend what is pasted by it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from cuts3d_mm.arrays import Mask

Steps = NDArray[np.uint8]
CONFIDENCE_STEPS = 255  # a stored confidence or doubt of 255 is 1.0
CONFIDENCE_SOURCES = 'map', 'score', 'none'  # where the confidence of a label comes from
LOWER_BOUND = 0.5  # smallest confidence in a map, SC_min [P 3.4, Table 5c]
Picture = NDArray[Any]


def require_confidence_source(source: str, allowed: tuple[str, ...] = CONFIDENCE_SOURCES) -> None:
    """Check the option `confidence_source`.

    Raises:
        ValueError: `source` is not an allowed word.
    """
    if source not in allowed:
        raise ValueError(f'confidence_source must be one of {allowed}, got {source!r}')


def steps_of(confidence: float) -> int:
    """Round a confidence in [0, 1] to steps of 1/255."""
    return round(CONFIDENCE_STEPS * confidence)


def raised_score(score: float, confidence: Steps, lower_bound: int) -> float:
    """Raise the score of an instance with its map.

    The score rises by as much as the mean of the map does when its values rise to the lower
    bound. A score that is the mean of the map becomes the mean of the raised map.

    Args:
        score: in [0, 1].
        confidence: (h, w) in steps of 1/255; 0 where the instance has no confidence.
        lower_bound: SC_min in steps of 1/255.
    """
    known = confidence[confidence > 0].astype(np.int64)
    if known.size == 0:
        return score
    gain = np.maximum(known, lower_bound).mean() - known.mean()
    return min(score + float(gain) / CONFIDENCE_STEPS, 1.0)


def doubt_of_grid(confidence: Steps, lower_bound: int = 0, extend: bool = False) -> Steps:
    """Turn a confidence map on the patch grid into doubt, 1 - confidence.

    Args:
        confidence: (h, w) in steps of 1/255; 0 where the instance has no confidence.
        lower_bound: SC_min in steps of 1/255; smaller values of the map rise to it.
        extend: whether a patch without confidence takes the doubt of the nearest patch with
            confidence. Otherwise it is certain: the weight of Eq. 6 is 1 outside the map.

    Returns:
        (h, w) in steps of 1/255.
    """
    is_known = confidence > 0
    raised = np.maximum(confidence, lower_bound)
    doubt = np.where(is_known, CONFIDENCE_STEPS - raised, 0).astype(np.uint8)
    if extend and is_known.any():
        rows, columns = distance_transform_edt(
            ~is_known, return_distances=False, return_indices=True
        )
        return doubt[rows, columns]
    return doubt


def blend(source: Picture, target: Picture, alpha: Steps) -> Picture:
    """Alpha-blend a source onto a target (Eq. 5).

    Args:
        source: (h, w, C) uint8 or float.
        target: array of the same shape and type.
        alpha: (h, w) share of the source in steps of 1/255. 255 is exactly the source, 0
            exactly the target.

    Returns:
        Blend, with the target's shape and type; 8-bit values are rounded.
    """
    if source.dtype != np.uint8:
        share = (alpha / np.float32(CONFIDENCE_STEPS))[..., None]
        return (share * source + (1 - share) * target).astype(target.dtype)
    share = alpha[..., None].astype(np.uint16)
    mixed = share * source + (CONFIDENCE_STEPS - share) * target
    mixed += CONFIDENCE_STEPS // 2
    mixed //= CONFIDENCE_STEPS
    return mixed.astype(np.uint8)


def paste_alpha(masks: Mask, doubt: Steps) -> Steps:
    """Share of the source in each pixel: 1 - doubt inside the masks, 0 outside.

    Args:
        masks: (K, h, w) masks of the pasted instances.
        doubt: (K, h, w) in steps of 1/255.

    Returns:
        (h, w) in steps of 1/255; where masks overlap, the largest share.
    """
    return np.where(masks, CONFIDENCE_STEPS - doubt, 0).max(axis=0, initial=0).astype(np.uint8)


def may_be_pasted(pasted: Mask, existing: Mask, areas: NDArray[Any], max_cover: float) -> Mask:
    """Whether each instance leaves enough of all existing ones visible (CutLER).

    Args:
        pasted: (K, h, w) masks to be pasted, in a window of the image.
        existing: (N, h, w) masks of the image in the same window.
        areas: (N,) pixels of the existing masks in the whole image.
        max_cover: an instance that covers this share of an existing instance, or more, is
            dropped.

    Returns:
        (K,) bool; an empty mask is False too.
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
