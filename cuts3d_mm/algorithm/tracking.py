"""Follow objects through the frames of a video by the overlap of their masks."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce

import numpy as np
from scipy.optimize import linear_sum_assignment

from cuts3d_mm.algorithm.tracked_object import Motion, SteadyMotion, TrackedObject
from cuts3d_mm.arrays import Double, Index, Mask

# Chosen by benchmarks/tracking.py.
MIN_IOU = 0.05  # of where an object is expected and where it is found
MIN_INSIDE = 0.5  # share of what is found that lies in the box where an object is expected
MAX_HIDDEN_FRAMES = 25  # an object that is not found for longer loses its number
GRID_PX = 480  # longer side, at most, of the grid on which masks are compared


class MaskTracker:
    """Gives each object of a video a number that it keeps.

    What is found in a frame is assigned to the objects of earlier frames so that the sum of the
    IoUs is largest (Kuhn 1955), with each object moved on by its speed. What is left is assigned
    to the objects that are left by the boxes where they are expected: so one that comes out from
    behind another keeps its number. All else gets the next number.

    Args:
        motion: makes the model of how an object moves.
    """

    def __init__(self, motion: Callable[[], Motion] = SteadyMotion) -> None:
        self._motion = motion
        self._objects: list[TrackedObject] = []
        self._num_objects = 0

    def forget(self) -> None:
        """Begin another video; the numbers go on."""
        self._objects = []

    def update(self, masks: Mask) -> Index:
        """Number the objects of the next frame.

        Args:
            masks: (N, H, W), none of them empty.

        Returns:
            (N,) from 1, each number once.
        """
        masks = _coarse(masks)
        found = self._assign(masks)
        for place, known in found.items():
            known.see(masks[place])
        seen = {known.number for known in found.values()}
        for known in self._objects:
            known.num_frames += known.number not in seen
        self._objects = [one for one in self._objects if one.num_frames <= MAX_HIDDEN_FRAMES + 1]
        for place in range(len(masks)):
            if place not in found:
                found[place] = self._begin(masks[place])
        return np.array([found[place].number for place in range(len(masks))], np.int64)

    def _assign(self, masks: Mask) -> dict[int, TrackedObject]:
        """Objects that are known, by their place among the masks of this frame."""
        found: dict[int, TrackedObject] = {}
        for expected, overlap, least in (
            (TrackedObject.expected_mask, pairwise_iou, MIN_IOU),
            (TrackedObject.expected_box, _share_inside, MIN_INSIDE),
        ):
            known = [one for one in self._objects if one not in found.values()]
            left = [place for place in range(len(masks)) if place not in found]
            if not known or not left:
                break
            values = overlap(np.stack([expected(one) for one in known]), masks[left])
            for row, column in zip(*linear_sum_assignment(-values), strict=True):
                if values[row, column] >= least:
                    found[left[column]] = known[row]
        return found

    def _begin(self, mask: Mask) -> TrackedObject:
        self._num_objects += 1
        self._objects.append(TrackedObject(self._num_objects, mask, self._motion()))
        return self._objects[-1]


def pairwise_iou(first: Mask, second: Mask) -> Double:
    """IoU of every mask of (M, H, W) with every one of (N, H, W), (M, N); 0 of two empty ones."""
    both, areas, other_areas = _intersections(first, second)
    return both / np.maximum(areas[:, None] + other_areas - both, 1)


def _share_inside(first: Mask, second: Mask) -> Double:
    """Share of every mask of (N, H, W) in every one of (M, H, W), (M, N)."""
    both, _, areas = _intersections(first, second)
    return both / np.maximum(areas, 1)


def _intersections(first: Mask, second: Mask) -> tuple[Double, Double, Double]:
    """Pixels that every two masks share, (M, N), and areas of both, (M,) and (N,)."""
    # float32 counts pixels up to 2^24 exactly: far more than the grid has.
    flat = [masks.reshape(len(masks), -1).astype(np.float32) for masks in (first, second)]
    both, *areas = flat[0] @ flat[1].T, flat[0].sum(axis=1), flat[1].sum(axis=1)
    return both.astype(np.float64), *(area.astype(np.float64) for area in areas)


def _coarse(masks: Mask) -> Mask:
    """Make masks smaller by a whole number; a cell of which any pixel is set is set."""
    count, height, width = masks.shape
    step = math.ceil(max(height, width) / GRID_PX)
    if step == 1:
        return masks
    padded = np.pad(masks, ((0, 0), (0, -height % step), (0, -width % step)))
    grid_hw = padded.shape[1] // step, padded.shape[2] // step
    # Ten times as fast as any() over two axes.
    rows = padded.reshape(count, grid_hw[0], step, padded.shape[2])
    masks = reduce(np.logical_or, (rows[:, :, index] for index in range(step)))
    columns = masks.reshape(count, *grid_hw, step)
    coarse: Mask = reduce(np.logical_or, (columns[..., index] for index in range(step)))
    return coarse
