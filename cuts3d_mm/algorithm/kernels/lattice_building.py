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
def lay_out(positions, scale, steps):  # type: ignore[no-untyped-def]
    """Return vertices and weights of each point, and neighbours of each vertex.

    Args:
        positions: (d, P) float32.
        scale: (d,) float32, of an axis in the space of the lattice.
        steps: (d + 1,) int64, what d + 1 cells along an axis add to the key of a vertex.
    """
    count, size = positions.shape[1], len(steps)
    vertices = np.empty((count, size), np.uint32)
    weights = np.empty((count, size), np.float32)
    slots = 2
    while slots < min(2 * size * count, _FIRST_SLOTS):
        slots *= 2
    table, keys, used = np.full(slots, -1, np.int32), np.empty(slots // 2, np.int64), 0
    offsets = np.empty((size, _BLOCK), np.int32)
    bases = np.empty(_BLOCK, np.int64)
    for start in range(0, count, _BLOCK):
        stop = min(start + _BLOCK, count)
        _elevate(positions, start, stop, scale, steps, offsets, bases)
        _sort(offsets, stop - start)
        most = used + (stop - start) * size
        if most > keys.size:
            table, keys = _grow(table, keys, used, most)
        _weigh(offsets, weights[start:stop])
        used = _insert(offsets, bases, steps, table, keys, used, vertices[start:stop])
    return vertices, weights, _link(keys[:used], table, keys, steps)


@njit(cache=True)
def _elevate(positions, start, stop, scale, steps, offsets, bases):  # type: ignore[no-untyped-def]
    """Map points into the plane of zero sum and find the nearest multiples of d + 1.

    The sum of the multiples may differ from zero. `bases` are the keys of the point that lies as
    far along all axes in the plane; it is a vertex of the simplex, or the walk through it leads
    there.
    """
    size = len(steps)
    whole_step = steps.sum() // size
    totals = np.zeros(_BLOCK, np.float32)
    bases[:] = 0
    for axis in range(size - 1, -1, -1):
        row, step = positions[max(axis - 1, 0)], steps[axis] - whole_step
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
            bases[lane] += multiple * step


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
def _insert(offsets, bases, steps, table, keys, used, vertices):  # type: ignore[no-untyped-def]
    """Walk round the simplex of each point and number its vertices."""
    count, size = vertices.shape
    whole_step = steps.sum() // size
    for lane in range(count):
        key = bases[lane]
        for vertex in range(size):
            slot = _find_slot(table, keys, key)
            found = table[slot]
            if found < 0:
                found = np.int32(used)
                table[slot] = found
                keys[used] = key
                used += 1
            vertices[lane, vertex] = found
            axis = _AXIS - (offsets[size - 1 - vertex, lane] & _AXIS)
            key += whole_step - steps[axis]
    return used


@njit(cache=True)
def _find_slot(table, keys, key):  # type: ignore[no-untyped-def]
    """Slot of a key in an open hash table, or the free slot where it belongs."""
    mask = table.size - 1
    mixed = key * _MIX
    slot = (mixed ^ (mixed >> 32)) & mask
    while table[slot] >= 0 and keys[table[slot]] != key:
        slot = (slot + 1) & mask
    return slot


@njit(cache=True)
def _grow(table, keys, used, most):  # type: ignore[no-untyped-def]
    """Copy a table to a larger one, at most half full with `most` keys."""
    slots = table.size
    while slots < 2 * most:
        slots *= 2
    larger, larger_keys = np.full(slots, -1, np.int32), np.empty(slots // 2, np.int64)
    larger_keys[:used] = keys[:used]
    for vertex in range(used):
        larger[_find_slot(larger, larger_keys, keys[vertex])] = vertex
    return larger, larger_keys


@njit(cache=True)
def _link(used_keys, table, keys, steps):  # type: ignore[no-untyped-def]
    """Find both neighbours of each vertex along each direction."""
    count, size = used_keys.size, len(steps)
    neighbors = np.full((size, count, 2), count, np.uint32)
    whole_step = steps.sum() // size
    for direction in range(size):
        step = whole_step - steps[direction]
        links = neighbors[direction]
        for vertex in range(count):
            found = table[_find_slot(table, keys, used_keys[vertex] + step)]
            if found >= 0:
                links[vertex, 0] = found
                links[found, 1] = vertex
    return neighbors
