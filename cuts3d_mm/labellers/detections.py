"""Turn the output of a detector into instances with confidence, without the detector."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from cuts3d_mm.arrays import Double, Float, Mask

_CELL_PX = 8  # of the confidence grid, as the patches of the pseudo-labels
_PROBABILITY_STEPS = 255  # MMDetection's masks without a threshold are uint8


@dataclass(frozen=True)
class Detection:
    """One instance that a detector has found."""

    mask: Mask  # (H, W)
    confidence: Float | None  # (h, w) cells of 8 px, in [0, 1]; None: certain
    score: float  # in [0, 1]


@dataclass(frozen=True)
class MaskCrop:
    """The part of a mask outside of which it is 0.

    A hundred whole masks of a large photo are gigabytes.
    """

    values: NDArray[np.bool_] | NDArray[np.uint8]  # (h, w); uint8: probability in 1/255
    top_left: tuple[int, int]  # in the image, pixels


@dataclass(frozen=True)
class DetectorOutput:
    """What a detector has found in one image, the best first."""

    crops: tuple[MaskCrop, ...]
    scores: Double  # (n,) in [0, 1]
    image_hw: tuple[int, int]


def read_detections(found: DetectorOutput, confidence_source: str) -> Iterator[Detection]:
    """Turn the output of a detector into instances, one at a time; empty masks are left out.

    Args:
        found: with probabilities if `confidence_source` is 'map', else with masks.
        confidence_source: 'map', 'score' or 'none', see `DetectorLabeller`.
    """
    for crop, score in zip(found.crops, found.scores.tolist(), strict=True):
        detection = _detection(_whole(crop, found.image_hw), score, confidence_source)
        if detection.mask.any():
            yield detection


def _whole(crop: MaskCrop, image_hw: tuple[int, int]) -> NDArray[np.generic]:
    mask = np.zeros(image_hw, crop.values.dtype)
    (top, left), (height, width) = crop.top_left, crop.values.shape
    mask[top : top + height, left : left + width] = crop.values
    return mask


def _detection(mask: NDArray[np.generic], score: float, confidence_source: str) -> Detection:
    if confidence_source == 'none':
        return Detection(mask.astype(bool), None, score)
    grid_hw = tuple(-(-side // _CELL_PX) for side in mask.shape)
    if confidence_source == 'score':
        return Detection(mask.astype(bool), np.full(grid_hw, score, np.float32), score)
    probability = np.float32(1 / _PROBABILITY_STEPS) * mask.astype(np.float32)
    is_inside = probability >= 0.5
    return Detection(is_inside, _mean_inside(probability, is_inside, grid_hw), score)


def _mean_inside(probability: Float, is_inside: Mask, grid_hw: tuple[int, ...]) -> Float:
    """Mean of the probabilities of a mask's pixels in every cell; 0 where there are none."""
    size = grid_hw[1], grid_hw[0]
    total = cv2.resize(probability * is_inside, size, interpolation=cv2.INTER_AREA)
    share = cv2.resize(is_inside.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    return np.where(share > 0, np.clip(total / np.maximum(share, 1e-6), 0, 1), 0).astype('f4')
