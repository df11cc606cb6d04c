"""Flood a mask from some of its pixels."""

from __future__ import annotations

import numpy as np
from numba import njit

# Inlined: compiled once, not also on its own and with each helper that calls it.
_helper = njit(cache=True, inline='always')


@njit(cache=True)
def flood(is_open, seeds):  # type: ignore[no-untyped-def]
    """Return (H, W) True where an open pixel is 4-connected to a seed by open ones.

    Runs of open pixels in a row are joined to those in the row above that they touch.

    Args:
        is_open: (H, W) bool.
        seeds: (S,) flat indices; those of closed pixels are left out.
    """
    first, end, parent = _joined_runs(is_open)
    is_hit = np.zeros(len(first), np.bool_)
    for seed in seeds:
        run = _last_from(first, seed)
        if run >= 0 and seed < end[run]:
            is_hit[_root(parent, run)] = True
    height, width = is_open.shape
    is_reached = np.zeros((height, width), np.bool_)
    for run in range(len(first)):
        if is_hit[_root(parent, run)]:
            row = first[run] // width
            pixels = is_reached[row]
            for pixel in range(first[run] - row * width, end[run] - row * width):
                pixels[pixel] = True
    return is_reached


@_helper
def _last_from(first, pixel):  # type: ignore[no-untyped-def]
    """Find the last run that begins at a pixel or before it; -1 if there is none."""
    low, high = -1, len(first)
    while high - low > 1:
        middle = (low + high) // 2
        if first[middle] <= pixel:
            low = middle
        else:
            high = middle
    return low


@_helper
def _joined_runs(is_open):  # type: ignore[no-untyped-def]
    """Find the runs in reading order.

    Returns:
        first: (R,) flat index of the first pixel of each.
        end: (R,) flat index behind the last one.
        parent: (R,) an earlier run of the same component, or the run itself.
    """
    height, width = is_open.shape
    num_runs = _count_runs(is_open)
    first, end = np.empty(num_runs, np.int64), np.empty(num_runs, np.int64)
    parent = np.empty(num_runs, np.int64)
    run = above = 0
    for row in range(height):
        row_start, column = run, 0
        pixels, offset = is_open[row], row * width
        while True:
            while column < width and not pixels[column]:
                column += 1
            if column == width:
                break
            first[run] = offset + column
            while column < width and pixels[column]:
                column += 1
            end[run], parent[run] = offset + column, run
            while above < row_start and end[above] + width <= first[run]:
                above += 1
            touching = above
            while touching < row_start and first[touching] + width < end[run]:
                _join(parent, touching, run)
                touching += 1
            run += 1
        above = row_start
    return first, end, parent


@_helper
def _count_runs(is_open):  # type: ignore[no-untyped-def]
    count = 0
    for row in range(is_open.shape[0]):
        pixels = is_open[row]
        count += pixels[0]
        for column in range(1, len(pixels)):
            count += pixels[column] & ~pixels[column - 1]
    return count


@_helper
def _join(parent, one, other):  # type: ignore[no-untyped-def]
    one, other = _root(parent, one), _root(parent, other)
    parent[max(one, other)] = min(one, other)


@_helper
def _root(parent, run):  # type: ignore[no-untyped-def]
    while parent[run] != run:
        parent[run] = parent[parent[run]]
        run = parent[run]
    return run
