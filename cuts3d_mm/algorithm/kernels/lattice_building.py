"""Lay points out on a permutohedral lattice.

The steps that need no table run over blocks of points, so that they compile to vector code.
Offsets are whole numbers, with the number of their axis in the lowest bits: sorting needs no more
than minima and maxima.
"""

from __future__ import annotations

import numpy as np
from numba import njit

_BLOCK = 256  # points at a time
_UNIT = np.float32(2**26)  # of an offset; the largest one is 3
_AXIS_BITS = 3
_AXIS = 2**_AXIS_BITS - 1
_FIRST_SLOTS = 2**18  # of the hash table, doubled as needed
_MIX = np.int64(-7046029254386353131)  # 2^64 / golden ratio


@njit(cache=True)
def lay_out(positions, scale, moves):  # type: ignore[no-untyped-def]
    """Return vertices and weights of each point, and neighbours of each vertex.

    Args:
        positions: (d, P) float32.
        scale: (d,) float32, of an axis in the space of the lattice.
        moves: (d + 1,) int64, what the next vertex along a direction adds to the key of one.
    """
    count, size = positions.shape[1], len(moves)
    vertices = np.empty((count, size), np.uint32)
    weights = np.empty((count, size), np.float32)
    slots = 2
    while slots < min(2 * size * count, _FIRST_SLOTS):
        slots *= 2
    table, keys = np.zeros(slots, np.int32), np.empty(slots // 2, np.int64)
    used = np.int64(0)
    offsets = np.empty((size, _BLOCK), np.int32)
    bases = np.empty(_BLOCK, np.int64)
    for start in range(0, count, _BLOCK):
        stop = min(start + _BLOCK, count)
        _elevate(positions, start, stop, scale, moves, offsets, bases)
        _sort(offsets, stop - start)
        most = used + (stop - start) * size
        if most > keys.size:
            table, keys = _grow(table, keys, used, most)
        _weigh(offsets, weights[start:stop])
        used = _insert(offsets, bases, moves, table, keys, used, vertices[start:stop])
    return vertices, weights, _link(table, keys, used, moves)


@njit(cache=True)
def _elevate(positions, start, stop, scale, moves, offsets, bases):  # type: ignore[no-untyped-def]
    """Map points into the plane of zero sum and find the nearest multiples of d + 1.

    The sum of the multiples may differ from zero. `bases` are the keys of the point that lies as
    far along all axes in the plane; it is a vertex of the simplex, or the walk through it leads
    there.
    """
    size = len(moves)
    totals = np.zeros(_BLOCK, np.float32)
    for lane in range(stop - start):
        bases[lane] = 0
    for axis in range(size - 1, -1, -1):
        row, move = positions[max(axis - 1, 0)], moves[axis]
        factor = scale[axis - 1] if axis > 0 else np.float32(0)
        marks = np.int32(_AXIS - axis)  # of equal offsets, that of the first axis is largest
        for lane in range(stop - start):
            scaled = row[start + lane] * factor
            elevated = totals[lane] - np.float32(axis) * scaled
            totals[lane] += scaled
            near = elevated * np.float32(1 / size) + np.float32(0.5)
            multiple = np.int32(near)
            multiple -= np.int32(near < multiple)
            offset = (elevated - np.float32(multiple * size)) * _UNIT
            offsets[axis, lane] = (np.int32(offset) << _AXIS_BITS) | marks
            bases[lane] -= multiple * move


@njit(cache=True)
def _sort(offsets, count):  # type: ignore[no-untyped-def]
    """Sort the offsets of each point, the largest first."""
    for last in range(len(offsets) - 1, 0, -1):
        for axis in range(last):
            first, second = offsets[axis], offsets[axis + 1]
            for lane in range(count):
                one, two = first[lane], second[lane]
                first[lane], second[lane] = max(one, two), min(one, two)


@njit(cache=True)
def _weigh(offsets, weights):  # type: ignore[no-untyped-def]
    """Write barycentric weights, in the order in which `_insert` walks round the simplex."""
    count, size = weights.shape
    share = np.float32(1 / size) / _UNIT
    for lane in range(count):
        above = (offsets[0, lane] >> _AXIS_BITS) - np.int32(size * _UNIT)
        for vertex in range(size):
            offset = offsets[size - 1 - vertex, lane] >> _AXIS_BITS
            weights[lane, vertex] = np.float32(offset - above) * share
            above = offset


@njit(cache=True)
def _insert(offsets, bases, moves, table, keys, used, vertices):  # type: ignore[no-untyped-def]
    """Walk round the simplex of each point and number its vertices."""
    count, size = vertices.shape
    for lane in range(count):
        key = bases[lane]
        for vertex in range(size):
            slot = _find_slot(table, keys, key)
            if table[slot] == 0:
                keys[used] = key
                used += 1
                table[slot] = used
            vertices[lane, vertex] = table[slot] - 1
            axis = _AXIS - (offsets[size - 1 - vertex, lane] & _AXIS)
            key += moves[axis]
    return used


@njit(cache=True)
def _find_slot(table, keys, key):  # type: ignore[no-untyped-def]
    """Slot of a key in an open hash table, or the free slot where it belongs.

    A slot holds 1 + the number of a vertex, or 0.
    """
    mask = table.size - 1
    mixed = key * _MIX
    slot = (mixed ^ (mixed >> 32)) & mask
    while table[slot] != 0 and keys[table[slot] - 1] != key:
        slot = (slot + 1) & mask
    return slot


@njit(cache=True)
def _grow(table, keys, used, most):  # type: ignore[no-untyped-def]
    """Copy a table to a larger one, at most half full with `most` keys."""
    slots = table.size
    while slots < 2 * most:
        slots *= 2
    larger, larger_keys = np.zeros(slots, np.int32), np.empty(slots // 2, np.int64)
    for vertex in range(used):
        larger_keys[vertex] = keys[vertex]
        larger[_find_slot(larger, larger_keys, keys[vertex])] = vertex + 1
    return larger, larger_keys


@njit(cache=True)
def _link(table, keys, used, moves):  # type: ignore[no-untyped-def]
    """Find both neighbours of each vertex along each direction."""
    neighbors = np.empty((len(moves), used, 2), np.uint32)
    for direction in range(len(moves)):
        links = neighbors[direction]
        for vertex in range(used):
            links[vertex, 0] = links[vertex, 1] = used
        for vertex in range(used):
            found = table[_find_slot(table, keys, keys[vertex] + moves[direction])]
            if found != 0:
                links[vertex, 0] = found - 1
                links[found - 1, 1] = vertex
    return neighbors
