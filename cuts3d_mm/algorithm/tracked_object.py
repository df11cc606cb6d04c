"""Remember an object of a video and expect where it is next."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from cuts3d_mm.arrays import Double, Mask

# Chosen by benchmarks/tracking.py.
SPEED_MEMORY = 0.7  # share of the earlier speed in the new one, in [0, 1)
SIZE_MEMORY = 0.99  # share of the size of an object that is kept from frame to frame


class Motion(Protocol):
    """How fast an object moves."""

    speed_yx: Double  # pixels a frame

    def see(self, moved_yx: Double, num_frames: int) -> None:
        """Take how far the object has moved, in pixels, in a number of frames."""


class SteadyMotion:
    """Goes on at the mean of the last speeds, each of which counts less than the next."""

    def __init__(self) -> None:
        self.speed_yx = np.zeros(2)

    def see(self, moved_yx: Double, num_frames: int) -> None:
        """Take how far the object has moved, in pixels, in a number of frames."""
        new = (1 - SPEED_MEMORY) * moved_yx / num_frames
        self.speed_yx = SPEED_MEMORY * self.speed_yx + new


class TrackedObject:
    """An object and how it moves.

    Where it is partly hidden, a side of its box is that of what hides it. Of the two sides on
    each axis the free one is that which moved more as expected: it tells how far the object has
    moved, and where all of it is, hidden parts included.

    Args:
        number: of the object.
        mask: (h, w), not empty.
        motion: of the object.
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
