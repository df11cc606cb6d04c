"""Outline masks by polygons that COCO tools rasterise to the same masks."""

from __future__ import annotations

import contourpy
import numpy as np
from pycocotools import mask as coco_mask

from cuts3d_mm.arrays import Double, Mask
from cuts3d_mm.labels.record import InstanceRecord, decode_mask

TOLERANCE_PX = 0.7  # of outlines: what a step of one pixel on a diagonal deviates from it
LEAST_IOU = 0.95  # of a mask and its polygons; thin masks below it keep every step
_DECIMALS = 2
_NO_LENGTH = 1e-12  # squared, px: of a segment from a point to itself


def mask_polygons(mask: Mask) -> list[list[float]]:
    """Outline a mask, a polygon for each part; a hole is joined to its polygon by a double line.

    Outlines pass halfway between pixels inside and outside. They are simplified, by at most
    TOLERANCE_PX, where the polygons then still have an IoU of LEAST_IOU with the mask.

    Args:
        mask: (H, W), not empty.

    Returns:
        x and y in turn, in pixels from the upper left corner of the image, as in COCO.
    """
    parts = _trace(mask)
    simple = [[_simplify(ring) for ring in rings] for rings in parts]
    polygons = [_join(rings) for rings in simple if len(rings[0]) > 2]
    if polygons and _iou(polygons, mask) >= LEAST_IOU:
        return polygons
    return [_join(rings) for rings in parts]


def record_polygons(record: InstanceRecord, image_hw: tuple[int, int]) -> list[list[float]]:
    """Outline the mask of a record, as `mask_polygons` does."""
    return mask_polygons(decode_mask(record, image_hw))


def _trace(mask: Mask) -> list[list[Double]]:
    """Rings of each part, (N, 2) x, y: its outline, then its holes the other way round."""
    generator = contourpy.contour_generator(
        z=np.pad(mask, 1).astype(np.float64), fill_type=contourpy.FillType.OuterOffset
    )
    parts = []
    for points, offsets in zip(*generator.filled(0.5, 1.5), strict=True):
        rings = np.split(points - 0.5, offsets[1:-1])
        parts.append([ring[:-1] for ring in rings])  # the last point repeats the first
    return parts


def _simplify(ring: Double) -> Double:
    """Leave points out by Douglas and Peucker's rule, between the two that lie farthest apart."""
    first = int(np.argmax(np.linalg.norm(ring - ring.mean(axis=0), axis=1)))
    ring = np.roll(ring, -first, axis=0)
    second = int(np.argmax(np.linalg.norm(ring - ring[0], axis=1)))
    closed = np.concatenate([ring, ring[:1]])
    is_kept = np.zeros(len(closed), bool)
    is_kept[[0, second]] = True
    waiting = [(0, second), (second, len(ring))]
    while waiting:
        start, end = waiting.pop()
        if end - start < 2:
            continue
        distances = _distances(closed[start + 1 : end], closed[start], closed[end])
        farthest = int(np.argmax(distances))
        if distances[farthest] > TOLERANCE_PX:
            middle = start + 1 + farthest
            is_kept[middle] = True
            waiting += [(start, middle), (middle, end)]
    return closed[is_kept]


def _distances(points: Double, start: Double, end: Double) -> Double:
    """Distances of points from a line segment, (N,)."""
    along = end - start
    share = np.clip((points - start) @ along / max(float(along @ along), _NO_LENGTH), 0, 1)
    return np.linalg.norm(points - start - share[:, None] * along, axis=1)


def _join(rings: list[Double]) -> list[float]:
    """Make one polygon of an outline and its holes, joined from left to right."""
    outline, *holes = rings
    for hole in sorted(
        (hole for hole in holes if len(hole) > 2), key=lambda hole: hole[:, 0].min()
    ):
        outline = _with_hole(outline, hole)
    return np.round(outline, _DECIMALS).ravel().tolist()


def _with_hole(outline: Double, hole: Double) -> Double:
    """Insert a hole at the first edge to the left of its leftmost point."""
    hole = np.roll(hole, -int(hole[:, 0].argmin()), axis=0)
    x, y = hole[0]
    start, end = outline, np.roll(outline, -1, axis=0)
    crosses = (start[:, 1] <= y) != (end[:, 1] <= y)
    rise = np.where(crosses, end[:, 1] - start[:, 1], 1)
    at_x = start[:, 0] + (y - start[:, 1]) / rise * (end[:, 0] - start[:, 0])
    edge = int(np.argmax(np.where(crosses & (at_x <= x), at_x, -np.inf)))
    door = np.array([[at_x[edge], y]])
    return np.concatenate([outline[: edge + 1], door, hole, hole[:1], door, outline[edge + 1 :]])


def _iou(polygons: list[list[float]], mask: Mask) -> float:
    code = coco_mask.merge(coco_mask.frPyObjects(polygons, *mask.shape))
    exact = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return float(coco_mask.iou([code], [exact], [0])[0, 0])
