"""Filter values by a Gaussian over their positions in feature space.

The permutohedral lattice of Adams, Baek and Davis (2010): values are splatted on the
vertices of the simplex around each position, blurred along the lattice directions and read
back. One lattice serves any number of values, up to four at a time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cuts3d_mm.arrays import Float

Nodes = NDArray[np.int32]

MAX_CHANNELS = 4  # values filtered together: one vector register of float32

_BITS = 12  # of one lattice coordinate in a packed key
_REACH = 2 ** (_BITS - 1) - 64  # largest coordinate, with room for the neighbours
_FIRST_CAPACITY = 2**15  # hash slots; doubled as needed


@dataclass(frozen=True)
class Lattice:
    """Where P positions in d dimensions lie on a lattice of M vertices."""

    vertices: Nodes  # (P, d + 1) vertices of the simplex around each position
    weights: Float  # (P, d + 1) barycentric, summing to 1
    neighbors: Nodes  # (d + 1, M, 2) along each direction; M where there is none


def build_lattice(positions: Float) -> Lattice:
    """Build the lattice of a Gaussian of unit standard deviation.

    Args:
        positions: (P, d) in units of the standard deviation, d from 1 to 5.

    Raises:
        ValueError: wrong d, or positions so far out that lattice keys would overflow.
    """
    if positions.ndim != 2 or not 1 <= positions.shape[1] <= 5:
        raise ValueError(f'positions must have shape (P, 1..5), got {positions.shape}')
    dimensions = positions.shape[1]
    axis = np.arange(1, dimensions + 1, dtype=np.float32)
    scale = np.float32(np.sqrt(2 / 3) * (dimensions + 1)) / np.sqrt(axis * (axis + 1))
    positions = np.ascontiguousarray(positions, np.float32)
    # A coordinate of the elevated point is a sum of scaled ones and at most d times another.
    farthest = np.abs(positions).max(axis=0) * scale
    reach = float(farthest.sum() + (farthest * axis).max()) + dimensions + 1
    if reach > _REACH:
        raise ValueError(
            f'positions must span less than {_REACH} lattice cells, got {reach:.0f}; '
            'use larger standard deviations or a smaller image'
        )
    vertices, weights, keys = _embed(positions, scale.astype(np.float32), _FIRST_CAPACITY)
    return Lattice(vertices, weights, _find_neighbors(keys, dimensions))


def filter_values(lattice: Lattice, values: Float) -> Float:
    """Apply the Gaussian to values at the lattice's positions.

    Args:
        values: (P, 1), (P, 2) or (P, 4).

    Returns:
        Filtered values of the same shape, not normalised: a constant 1 comes back as the
        local density.
    """
    lanes = (np.float32(0),) * values.shape[1]  # of a type of its own for each width
    return _filter(lattice.vertices, lattice.weights, lattice.neighbors, values, lanes)


@njit(cache=True)
def _embed(positions, scale, capacity):  # type: ignore[no-untyped-def]
    count, dimensions = positions.shape
    size = dimensions + 1
    vertices = np.empty((count, size), np.int32)
    weights = np.empty((count, size), np.float32)
    table = np.full(capacity, -1, np.int32)
    keys = np.empty(capacity // 2 + size, np.int64)
    used = 0
    elevated = np.empty(size, np.float32)
    nearest = np.empty(size, np.int32)
    rank = np.empty(size, np.int32)
    bary = np.empty(size + 1, np.float32)
    last_base, last_order = np.int64(-1), np.int64(-1)
    for point in range(count):
        _elevate(positions[point], scale, elevated)
        _enclosing_simplex(elevated, nearest, rank)
        _barycentric(elevated, nearest, rank, bary)
        base = np.int64(0)
        order = np.int64(0)
        for axis in range(dimensions):
            base += np.int64(nearest[axis]) << (_BITS * axis)
            order = order * 8 + rank[axis]
        is_same = point > 0 and base == last_base and order == last_order
        last_base, last_order = base, order
        for vertex in range(size):
            weights[point, vertex] = bary[vertex]
            if is_same:  # neighbouring pixels often share their simplex
                vertices[point, vertex] = vertices[point - 1, vertex]
                continue
            key = base
            for axis in range(dimensions):
                step = vertex if rank[axis] <= dimensions - vertex else vertex - size
                key += np.int64(step) << (_BITS * axis)
            slot = _find_slot(table, keys, key)
            if table[slot] < 0:
                table[slot] = used
                keys[used] = key
                used += 1
            vertices[point, vertex] = table[slot]
        if used > keys.size - 2 * size:
            table, keys = _grow(table, keys, used)
    return vertices, weights, keys[:used].copy()


@njit(cache=True)
def _elevate(position, scale, elevated):  # type: ignore[no-untyped-def]
    """Map a position into the hyperplane of points whose coordinates sum to zero."""
    total = np.float32(0)
    for axis in range(position.size, 0, -1):
        scaled = position[axis - 1] * scale[axis - 1]
        elevated[axis] = total - axis * scaled
        total += scaled
    elevated[0] = total


@njit(cache=True)
def _enclosing_simplex(elevated, nearest, rank):  # type: ignore[no-untyped-def]
    """Find the nearest remainder-0 vertex and the order of the offsets from it."""
    size = elevated.size
    excess = 0
    for axis in range(size):
        multiple = np.int32(np.rint(elevated[axis] / size))
        nearest[axis] = multiple * size
        excess += int(multiple)
        rank[axis] = 0
    for axis in range(size):
        for other in range(axis + 1, size):
            if elevated[axis] - nearest[axis] < elevated[other] - nearest[other]:
                rank[axis] += 1
            else:
                rank[other] += 1
    for axis in range(size):  # walk back to the plane where the coordinates sum to zero
        rank[axis] += excess
        if rank[axis] < 0:
            rank[axis] += size
            nearest[axis] += size
        elif rank[axis] >= size:
            rank[axis] -= size
            nearest[axis] -= size


@njit(cache=True)
def _barycentric(elevated, nearest, rank, bary):  # type: ignore[no-untyped-def]
    size = elevated.size
    bary[:] = 0
    for axis in range(size):
        share = (elevated[axis] - nearest[axis]) / size
        bary[size - 1 - rank[axis]] += share
        bary[size - rank[axis]] -= share
    bary[0] += 1 + bary[size]


@njit(cache=True)
def _find_slot(table, keys, key):  # type: ignore[no-untyped-def]
    """Slot of a key in an open hash table, or the free slot where it belongs."""
    mask = table.size - 1
    mixed = key * np.int64(-7046029254386353131)  # 2^64 / golden ratio
    slot = (mixed ^ (mixed >> 29)) & mask
    while table[slot] >= 0 and keys[table[slot]] != key:
        slot = (slot + 1) & mask
    return slot


@njit(cache=True)
def _grow(table, keys, used):  # type: ignore[no-untyped-def]
    larger_table = np.full(table.size * 2, -1, np.int32)
    larger_keys = np.empty(larger_table.size // 2 + 8, np.int64)
    larger_keys[:used] = keys[:used]
    for index in range(used):
        larger_table[_find_slot(larger_table, larger_keys, keys[index])] = index
    return larger_table, larger_keys


@njit(cache=True)
def _find_neighbors(keys, dimensions):  # type: ignore[no-untyped-def]
    count = keys.size
    capacity = 4
    while capacity < 2 * count:
        capacity *= 2
    table = np.full(capacity, -1, np.int32)
    for index in range(count):
        table[_find_slot(table, keys, keys[index])] = index
    ones = np.int64(0)
    for axis in range(dimensions):
        ones += np.int64(1) << (_BITS * axis)
    neighbors = np.full((dimensions + 1, count, 2), count, np.int32)
    for direction in range(dimensions + 1):
        step = ones
        if direction < dimensions:
            step -= np.int64(dimensions + 1) << (_BITS * direction)
        for index in range(count):
            found = table[_find_slot(table, keys, keys[index] + step)]
            if found >= 0:
                neighbors[direction, index, 0] = found
                neighbors[direction, found, 1] = index
    return neighbors


@njit(cache=True, fastmath=True)
def _filter(vertices, weights, neighbors, values, lanes):  # type: ignore[no-untyped-def]
    count, size = vertices.shape
    lattice_size = neighbors.shape[1]
    current = np.zeros((lattice_size + 1, len(lanes)), np.float32)
    blurred = np.zeros((lattice_size + 1, len(lanes)), np.float32)
    for point in range(count):
        for vertex in range(size):
            target = vertices[point, vertex]
            weight = weights[point, vertex]
            for channel in range(len(lanes)):
                current[target, channel] += weight * values[point, channel]
    for direction in range(size):
        for index in range(lattice_size):
            one = neighbors[direction, index, 0]
            two = neighbors[direction, index, 1]
            for channel in range(len(lanes)):
                blurred[index, channel] = current[index, channel] + np.float32(0.5) * (
                    current[one, channel] + current[two, channel]
                )
        current, blurred = blurred, current
    # The blur spreads a value by 1 + 2^-d in all; this brings the sum back.
    gain = np.float32(1 / (1 + 2.0 ** (1 - size)))
    filtered = np.empty((count, len(lanes)), np.float32)
    for point in range(count):
        for channel in range(len(lanes)):
            filtered[point, channel] = 0
        for vertex in range(size):
            source = vertices[point, vertex]
            weight = gain * weights[point, vertex]
            for channel in range(len(lanes)):
                filtered[point, channel] += weight * current[source, channel]
    return filtered
