"""Switches of numbers when objects of rendered clips are followed, by the model of their motion.

Objects pass in front of one another and change their speed. A detector is simulated: one mask in
20 is missed, borders are off by a pixel, and one frame in ten has a false mask.

    python benchmarks/tracking.py --clips 20
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy import ndimage

from cuts3d_mm.algorithm.tracking import MaskTracker, SteadyMotion
from cuts3d_mm.scenes.rendering import MIN_VISIBLE_RATIO

sys.path.insert(0, str(Path(__file__).parents[1] / 'tests'))
from helpers.moving import render_clip  # noqa: E402

IMAGE_HW, NUM_FRAMES = (120, 160), 60
MISSED, FALSE_PER_FRAME, FALSE_PX = 0.05, 0.1, 12
FALSE = -1  # what a false mask shows
EVERY = (1, 3)  # all frames, and every third, in which objects move three times as fast
PROCESS_NOISE, MEASUREMENT_NOISE, START_VARIANCE = 0.1, 1.0, 10.0  # px^2, of the Kalman filter


class NoMotion:
    """An object is expected where it was."""

    speed_yx = np.zeros(2)

    def see(self, moved_yx, num_frames) -> None:
        """Nothing to learn."""


class KalmanMotion:
    """Kalman filter of place and speed, the same on both axes, with random acceleration."""

    def __init__(self) -> None:
        self._place_yx, self.speed_yx = np.zeros((2, 2))
        self._seen_yx = np.zeros(2)
        self._covariance = np.diag([MEASUREMENT_NOISE, START_VARIANCE])

    def see(self, moved_yx, num_frames) -> None:
        """Predict frame by frame, then correct by the place that was seen."""
        step = np.array([[1.0, 1.0], [0.0, 1.0]])
        noise = PROCESS_NOISE * np.array([[0.25, 0.5], [0.5, 1.0]])
        for _ in range(num_frames):
            self._place_yx = self._place_yx + self.speed_yx
            self._covariance = step @ self._covariance @ step.T + noise
        self._seen_yx = self._seen_yx + moved_yx
        gain = self._covariance[:, 0] / (self._covariance[0, 0] + MEASUREMENT_NOISE)
        error_yx = self._seen_yx - self._place_yx
        self._place_yx = self._place_yx + gain[0] * error_yx
        self.speed_yx = self.speed_yx + gain[1] * error_yx
        self._covariance = self._covariance - np.outer(gain, self._covariance[0])


MOTIONS = {'none': NoMotion, 'steady (used)': SteadyMotion, 'Kalman filter': KalmanMotion}


def detect(frames, rng) -> Iterator[tuple[np.ndarray, list[int]]]:
    """Masks of each frame in a random order, and which object each of them shows."""
    for masks in frames:
        found = []
        for index, mask in enumerate(masks):
            if mask.mean() >= MIN_VISIBLE_RATIO and rng.random() >= MISSED:
                change = (ndimage.binary_erosion, np.array, ndimage.binary_dilation)
                found.append((change[rng.integers(3)](mask), index))
        if rng.random() < FALSE_PER_FRAME:
            mask = np.zeros(IMAGE_HW, bool)
            top, left = rng.integers(np.array(IMAGE_HW) - FALSE_PX)
            mask[top : top + FALSE_PX, left : left + FALSE_PX] = True
            found.append((mask, FALSE))
        found = [found[i] for i in rng.permutation(len(found)) if found[i][0].any()]
        yield np.array([mask for mask, _ in found]).reshape(-1, *IMAGE_HW), [i for _, i in found]


def count(clips, motion) -> tuple[int, int, int, int]:
    """Objects, their masks, their numbers, and how often the number of an object changes."""
    objects = masks_seen = numbers_used = switches = 0
    for seed, frames in enumerate(clips):
        tracker, last, used = MaskTracker(motion), {}, set()
        for masks, shown in detect(frames, np.random.default_rng(seed)):
            for number, index in zip(tracker.update(masks.astype(bool)), shown, strict=True):
                if index != FALSE:
                    switches += last.get(index, number) != number
                    last[index] = number
                    used.add(number)
                    masks_seen += 1
        objects, numbers_used = objects + len(last), numbers_used + len(used)
    return objects, masks_seen, numbers_used, switches


def main() -> None:
    """Print a line for each motion."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--clips', type=int, default=20, metavar='N')
    rngs = [np.random.default_rng(seed) for seed in range(parser.parse_args().clips)]
    clips = [[scene.masks for scene in render_clip(rng, NUM_FRAMES, IMAGE_HW)] for rng in rngs]
    for every in EVERY:
        for name, motion in MOTIONS.items():
            objects, masks, numbers, switches = count([clip[::every] for clip in clips], motion)
            print(
                f'frame 1 of {every}  {name:14s} {objects:4d} objects in {masks:5d} masks: '
                f'{numbers:4d} numbers, {switches:4d} switches'
            )


if __name__ == '__main__':
    main()
