"""Follow instances through the frames of a video."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce
from typing import Protocol

import numpy as np
from scipy.optimize import linear_sum_assignment

from cuts3d_mm.arrays import Double, Index, Mask

# Chosen by benchmarks/tracking.py.
MIN_IOU = 0.05  # of where an object is expected and where it is found
MIN_INSIDE = 0.5  # share of what is found that lies in the box where an object is expected
MAX_HIDDEN_FRAMES = 25  # an object that is not found for longer loses its number
GRID_PX = 480  # longer side, at most, of the grid on which masks are compared
# Chosen by benchmarks/tracking.py.
SPEED_MEMORY = 0.7  # share of the earlier speed in the new one, in [0, 1)
SIZE_MEMORY = 0.99  # share of the size of an object that is kept from frame to frame


class SteadyMotion:
    """Goes on at the mean of the last speeds, each of which counts less than the next."""

    def __init__(self) -> None:
        self.speed_yx = np.zeros(2)

    def see(self, moved_yx: Double, num_frames: int) -> None:
        """Take how far the object has moved, in pixels, in a number of frames."""
        new = (1 - SPEED_MEMORY) * moved_yx / num_frames
        self.speed_yx = SPEED_MEMORY * self.speed_yx + new


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
        """Number the objects of the next frame, (N,) from 1, by masks that are not empty."""
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


class Motion(Protocol):
    """How fast an object moves."""

    speed_yx: Double  # pixels a frame

    def see(self, moved_yx: Double, num_frames: int) -> None:
        """Take how far the object has moved, in pixels, in a number of frames."""


class TrackedObject:
    """An object and how it moves.

    Where it is partly hidden, a side of its box is that of what hides it. Of the two sides on
    each axis the free one is that which moved more as expected: it tells how far the object has
    moved, and where all of it is, hidden parts included.
    """

    def __init__(self, number: int, mask: Mask, motion: Motion) -> None:
        self.number = number
        self.num_frames = 1  # from the one that it was last found in to the next
        self._mask, self._box, self._motion = mask, _box(mask), motion
        self._size_yx = self._box[1] - self._box[0]  # of all of it
        self._free = np.zeros(2, np.intp)  # side on each axis: 0 low, 1 high

    def see(self, mask: Mask) -> None:
        """Take the mask of the next frame, (h, w) and not empty."""
        box = _box(mask)
        moved = box - self._box
        self._free = np.abs(moved - self._shift_yx()).argmin(axis=0)
        self._motion.see(moved[self._free, (0, 1)], self.num_frames)
        kept = SIZE_MEMORY**self.num_frames * self._size_yx
        self._size_yx = np.maximum(kept, box[1] - box[0])
        self._mask, self._box, self.num_frames = mask, box, 1

    def expected_mask(self) -> Mask:
        """Where the part that was last seen is in the next frame, (h, w)."""
        return shift_mask(self._mask, self._shift_yx())

    def expected_box(self) -> Mask:
        """Box of all of the object in the next frame as a mask, (h, w)."""
        low = np.where(self._free == 0, self._box[0], self._box[1] - self._size_yx)
        low = np.rint(low + self._shift_yx()).astype(int)
        high = low + np.rint(self._size_yx).astype(int) + 1
        filled = np.zeros_like(self._mask)
        rows, columns = (slice(max(0, a), max(0, b)) for a, b in zip(low, high, strict=True))
        filled[rows, columns] = True
        return filled

    def _shift_yx(self) -> Double:
        return self._motion.speed_yx * self.num_frames


def shift_mask(mask: Mask, shift_yx: Double) -> Mask:
    """Move a (H, W) mask by whole pixels; what leaves the image is gone."""
    height, width = mask.shape
    down, right = np.rint(np.clip(shift_yx, (-height, -width), (height, width))).astype(int)
    moved = np.zeros_like(mask)
    moved[max(0, down) : height + min(0, down), max(0, right) : width + min(0, right)] = mask[
        max(0, -down) : height - max(0, down), max(0, -right) : width - max(0, right)
    ]
    return moved


def _box(mask: Mask) -> Double:
    """First and last (y, x) of a mask, (2, 2)."""
    ends = [np.flatnonzero(mask.any(axis=axis))[[0, -1]] for axis in (1, 0)]
    return np.array(ends, np.float64).T
