"""Check the mask of a COCO annotation and bring it to a run-length code."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from cuts3d_mm.labels.coco_schema import Polygons, RunLengths
from cuts3d_mm.labels.run_length import pack_runs, tidy_code

MAX_POLYGONS = 4096  # of one mask; those of COCO and LVIS have some hundreds
# Of all polygons of a mask together: pycocotools takes some 50 bytes for each pixel of them.
MAX_OUTLINE_PX = 2**20
_FEWEST_NUMBERS = 6  # of a polygon: three points


def compress_mask(segmentation: Polygons | RunLengths, image_hw: tuple[int, int]) -> bytes:
    """Rasterise polygons, or check and compress run lengths.

    Raises:
        ValueError: the mask is not one of an image of this size.
    """
    if isinstance(segmentation, RunLengths):
        if segmentation.size != image_hw:
            raise ValueError(f'size must be {list(image_hw)} (H, W), got {segmentation.size}')
        counts = segmentation.counts
        if isinstance(counts, str):
            return tidy_code(counts.encode('utf-8'), image_hw)
        return pack_runs(counts, image_hw)
    check_polygons(segmentation, image_hw)
    return coco_mask.merge(coco_mask.frPyObjects(segmentation, *image_hw))['counts']


def check_polygons(polygons: Polygons, image_hw: tuple[int, int]) -> None:
    """Check that pycocotools can rasterise polygons.

    Raises:
        ValueError: there is none or too many, or one is too short, of odd length, too long, or
            farther from the image than the image is large.
    """
    if not 0 < len(polygons) <= MAX_POLYGONS:
        raise ValueError(f'must have from 1 to {MAX_POLYGONS} polygons, got {len(polygons)}')
    side = max(image_hw)
    outline_px = 0.0
    for index, polygon in enumerate(polygons):
        if len(polygon) < _FEWEST_NUMBERS or len(polygon) % 2:
            raise ValueError(
                f'polygon {index} must have an even number of coordinates, at least '
                f'{_FEWEST_NUMBERS}, got {len(polygon)}'
            )
        low, high = min(polygon), max(polygon)
        if not (-side <= low and high <= 2 * side and all(map(math.isfinite, polygon))):
            raise ValueError(
                f'polygon {index} must lie within {-side} to {2 * side} px, as the image has '
                f'{image_hw[0]} x {image_hw[1]} px, got {low} to {high}'
            )
        outline_px += _longest_outline(polygon, high - low)
    if outline_px > MAX_OUTLINE_PX:
        raise ValueError(f'polygons must have an outline of at most {MAX_OUTLINE_PX} px')


def _longest_outline(polygon: list[float], extent: float) -> float:
    bound = len(polygon) / 2 * extent
    if bound <= MAX_OUTLINE_PX / MAX_POLYGONS:
        return bound
    points = np.asarray(polygon).reshape(-1, 2)
    steps = np.abs(np.diff(points, axis=0, append=points[:1]))
    return float(steps.max(axis=1).sum())


def mask_code(segmentation: Any, image_hw: tuple[int, int]) -> dict[str, Any]:
    """Bring a mask of a ground truth that was read with its check to one form."""
    if isinstance(segmentation, dict):
        return segmentation
    return coco_mask.merge(coco_mask.frPyObjects(segmentation, *image_hw))
