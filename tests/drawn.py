"""Drawn worlds with known answers. Nothing is square, so that swapped sizes show."""

from __future__ import annotations

import numpy as np

GRID_HW = (18, 26)


def disc(center_yx, radius, grid_hw=GRID_HW):
    rows, columns = np.mgrid[: grid_hw[0], : grid_hw[1]]
    return (rows - center_yx[0]) ** 2 + (columns - center_yx[1]) ** 2 <= radius**2


def two_touching_discs():
    """Two discs of one class that touch in 2D: left one near, right one far."""
    left, right = disc((9, 8), 5.3), disc((9, 17), 5.3)
    return left & ~right, right


def features_of(labels, rng, noise=0.5, channels=48):
    """(h, w, C) features: one direction per label, at right angles, plus noise."""
    random = rng.standard_normal((channels, labels.max() + 1))
    directions = np.linalg.qr(random)[0].T * np.sqrt(channels)
    features = directions[labels] + noise * rng.standard_normal((*labels.shape, channels))
    return features.astype(np.float32)


def touching_world(rng):
    """Features in which the discs are one class, depth in which they are two."""
    left, right = two_touching_discs()
    labels = (left | right).astype(int)
    depth = np.full(GRID_HW, 0.9)
    depth[left], depth[right] = 0.1, 0.55
    depth += 0.004 * rng.standard_normal(GRID_HW)
    return features_of(labels, rng), depth.astype(np.float32), left, right


def photo(rng, image_hw=(90, 130)):
    """A (H, W, 3) uint8 picture with two coloured discs on a gradient."""
    rows, columns = np.mgrid[: image_hw[0], : image_hw[1]]
    image = np.stack([rows, columns, rows + columns], axis=-1) * 0.3 + 60
    image[disc((image_hw[0] * 0.5, image_hw[1] * 0.3), 22, image_hw)] = (220, 60, 40)
    image[disc((image_hw[0] * 0.5, image_hw[1] * 0.65), 22, image_hw)] = (215, 64, 44)
    return np.clip(image + rng.normal(0, 4, image.shape), 0, 255).astype(np.uint8)


def iou(first, second):
    return (first & second).sum() / max((first | second).sum(), 1)
