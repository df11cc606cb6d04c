"""Lay points out on a permutohedral lattice.

The lattice of Adams, Baek and Davis (2010) applies a Gaussian in few steps: values are added to
the vertices of the simplex around each point, blurred along the lattice directions and read back.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cuts3d_mm.algorithm.kernels.kernel import Kernel
from cuts3d_mm.arrays import Float, Index

Nodes = NDArray[np.uint32]

_KEY_BITS = 12  # of one lattice coordinate in the key of a vertex
_REACH = 2 ** (_KEY_BITS - 1) - 64  # largest coordinate, with room for the neighbours


@dataclass(frozen=True)
class Lattice:
    """Where P points in d dimensions lie on a lattice of M vertices."""

    vertices: Nodes  # (P, d + 1) vertices of the simplex around each point
    weights: Float  # (P, d + 1) barycentric, summing to 1
    neighbors: Nodes  # (d + 1, M, 2) along each direction; M where there is none


def build_lattice(positions: Float) -> Lattice:
    """Build the lattice of a Gaussian of unit standard deviation.

    Args:
        positions: (d, P) in units of the standard deviation, d from 1 to 5.

    Raises:
        ValueError: wrong d, or positions so far out that keys of vertices would overflow.
    """
    if positions.ndim != 2 or not 1 <= len(positions) <= 5:
        raise ValueError(f'positions must have shape (1..5, P), got {positions.shape}')
    dimensions = len(positions)
    axis = np.arange(1, dimensions + 1, dtype=np.float32)
    scale = np.float32(np.sqrt(2 / 3) * (dimensions + 1)) / np.sqrt(axis * (axis + 1))
    positions = np.ascontiguousarray(positions, np.float32)
    # A coordinate of the elevated point is a sum of scaled ones and at most d times another.
    farthest = np.maximum(positions.max(axis=1), -positions.min(axis=1)) * scale
    reach = float(farthest.sum() + (farthest * axis).max()) + dimensions + 1
    if not reach <= _REACH:
        raise ValueError(
            f'positions must span less than {_REACH} lattice cells, got {reach:.0f}; '
            'use larger standard deviations or a smaller image'
        )
    cells = np.array([1 << (_KEY_BITS * i) for i in range(dimensions)] + [0], np.int64)
    moves = cells.sum() - (dimensions + 1) * cells
    return Lattice(*_lay_out(positions, scale.astype(np.float32), moves))


def _lay_out_plain(positions: Float, scale: Float, moves: Index) -> tuple[Nodes, Float, Nodes]:
    size = len(moves)
    elevated = _elevate(positions * scale[:, None])
    multiples = np.floor(elevated / np.float32(size) + np.float32(0.5)).astype(np.int64)
    offsets = elevated - np.float32(size) * multiples
    order = np.argsort(-offsets, axis=0, kind='stable')
    ranked = np.take_along_axis(offsets, order, axis=0)
    weights = (ranked - np.roll(ranked, -1, axis=0)) / np.float32(size)
    weights[-1] += 1
    # One vertex of the simplex; each further one is its neighbour along the next axis.
    base, walked = -moves @ multiples, np.cumsum(moves[order[:0:-1]], axis=0)
    keys = np.concatenate([base[None], base + walked]).T
    used, numbers = np.unique(keys.ravel(), return_inverse=True)
    vertices: Nodes = numbers.reshape(keys.shape).astype(np.uint32)
    return vertices, np.ascontiguousarray(weights[::-1].T), _link(used, moves)


def _elevate(scaled: Float) -> Float:
    """Map (d, P) points into the plane of d + 1 coordinates whose sum is zero."""
    elevated = np.empty((len(scaled) + 1, scaled.shape[1]), np.float32)
    total = np.zeros(scaled.shape[1], np.float32)
    for axis in range(len(scaled), 0, -1):
        elevated[axis] = total - np.float32(axis) * scaled[axis - 1]
        total += scaled[axis - 1]
    elevated[0] = total
    return elevated


def _link(keys: Index, moves: Index) -> Nodes:
    """Find the neighbours of vertices with the given keys, which are sorted."""
    count, size = len(keys), len(moves)
    neighbors = np.full((size, count, 2), count, np.uint32)
    for direction, move in enumerate(moves):
        places = np.searchsorted(keys, keys + move)
        found = np.flatnonzero(keys[np.minimum(places, count - 1)] == keys + move)
        neighbors[direction, found, 0] = places[found]
        neighbors[direction, places[found], 1] = found
    return neighbors


_lay_out = Kernel('lattice.lay_out', _lay_out_plain)
