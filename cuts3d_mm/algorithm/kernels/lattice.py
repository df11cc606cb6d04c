"""Build the permutohedral lattice and blur values on it, compiled."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core.cgutils import create_struct_proxy
from numba.extending import intrinsic

_BLOCK = 256  # points at a time
_UNIT = np.float32(2**26)  # of an offset; the largest one is 3
_AXIS_BITS = 3
_AXIS = 2**_AXIS_BITS - 1
_FIRST_SLOTS = 2**18  # of the hash table, doubled as needed
_MIX = np.int64(-7046029254386353131)  # 2^64 / golden ratio
_LANES = 4
_FILTER_BLOCK = 128  # points at a time, whose values stay in the nearest cache
_SPATIAL, _BILATERAL = (0, 1, 2), (0, 1, 2, 3, 4, 5)  # vertices of a simplex
_REGISTER = ir.VectorType(ir.FloatType(), _LANES)
_EVERY_LANE = ir.Constant(ir.VectorType(ir.IntType(32), _LANES), [0] * _LANES)


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


@njit(cache=True)
def filter_values(vertices, weights, neighbors, values):  # type: ignore[no-untyped-def]
    """Return the values of P points, filtered; four follow one another."""
    start, count, corners = np.int64(0), len(vertices), range(vertices.shape[1])
    first, second = _empty_lattice(neighbors)
    filtered = np.zeros(values.size, np.float32)
    _add(first, vertices, weights, values, start, count, corners)
    blurred, _ = _blur(first, second, neighbors)
    _read(blurred, vertices, weights, filtered, start, count, corners)
    return filtered


@njit(cache=True)
def infer_masks(masks, logit, num_iterations, spatial, bilateral):  # type: ignore[no-untyped-def]
    """Return the masks of which a mean field makes (at most 4, P) masks.

    Args:
        masks: (n, P) bool.
        logit: float32, log odds of a mask.
        num_iterations: of the mean field.
        spatial: vertices, weights and neighbours of the lattice in 2 dimensions.
        bilateral: the same in 5 dimensions.
    """
    inferred = np.empty(masks.shape, np.bool_)
    near, near_next = _empty_lattice(spatial[2])
    far, far_next = _empty_lattice(bilateral[2])
    fields = np.empty(_LANES * _FILTER_BLOCK, np.float32)
    for iteration in range(num_iterations + 1):
        if iteration > 0:
            near, near_next = _blur(near_next, near, spatial[2])
            far, far_next = _blur(far_next, far, bilateral[2])
            _clear(near_next)
            _clear(far_next)
        for start in range(0, masks.shape[1], _FILTER_BLOCK):
            count = min(_FILTER_BLOCK, masks.shape[1] - start)
            _set_unary(fields, masks, logit, start, count)
            if iteration > 0:
                _read(near, spatial[0], spatial[1], fields, start, count, _SPATIAL)
                _read(far, bilateral[0], bilateral[1], fields, start, count, _BILATERAL)
            if iteration == num_iterations:
                _threshold(fields, inferred, start, count)
                continue
            _squash(fields)
            _add(near_next, spatial[0], spatial[1], fields, start, count, _SPATIAL)
            _add(far_next, bilateral[0], bilateral[1], fields, start, count, _BILATERAL)
    return inferred


@njit(cache=True)
def _empty_lattice(neighbors):  # type: ignore[no-untyped-def]
    size = _LANES * (neighbors.shape[1] + 1)  # the last vertex stands for a missing neighbour
    return np.zeros(size, np.float32), np.zeros(size, np.float32)


@njit(cache=True)
def _clear(values):  # type: ignore[no-untyped-def]
    for index in range(values.size):  # compiles in a fraction of the time of a slice
        values[index] = 0


@njit(cache=True)
def _set_unary(fields, masks, logit, start, count):  # type: ignore[no-untyped-def]
    _clear(fields)
    for channel in range(len(masks)):
        mask = masks[channel]
        for point in range(count):
            fields[_LANES * point + channel] = logit if mask[start + point] else -logit


@njit(cache=True)
def _threshold(fields, masks, start, count):  # type: ignore[no-untyped-def]
    for channel in range(len(masks)):
        for point in range(count):
            masks[channel, start + point] = fields[_LANES * point + channel] > 0


@njit(cache=True, error_model='numpy')
def _squash(fields):  # type: ignore[no-untyped-def]
    """Set z to tanh(z / 2), by Lambert's continued fraction down to 17, within 1e-5."""
    for index in range(fields.size):
        half = fields[index] * np.float32(0.5)
        half = half if half < np.float32(6.3) else np.float32(6.3)
        half = half if half > np.float32(-6.3) else np.float32(-6.3)
        square = half * half
        above = square + np.float32(990)
        above = above * square + np.float32(135135)
        above = above * square + np.float32(4729725)
        above = above * square + np.float32(34459425)
        below = np.float32(45) * square + np.float32(13860)
        below = below * square + np.float32(945945)
        below = below * square + np.float32(16216200)
        below = below * square + np.float32(34459425)
        fields[index] = half * above / below


@njit(cache=True)
def _add(lattice, vertices, weights, fields, start, count, corners):  # type: ignore[no-untyped-def]
    """Add values of points to the vertices around them."""
    for point in range(count):
        for corner in range(len(corners)):
            vertex = np.int64(vertices[start + point, corner])
            weight = weights[start + point, corner]
            _add_scaled(lattice, _LANES * vertex, weight, fields, _LANES * point)  # type: ignore[call-arg]


@njit(cache=True)
def _read(lattice, vertices, weights, fields, start, count, corners):  # type: ignore[no-untyped-def]
    """Add values of the vertices around points to those of the points."""
    for point in range(count):
        for corner in range(len(corners)):
            vertex = np.int64(vertices[start + point, corner])
            weight = weights[start + point, corner]
            _add_scaled(fields, _LANES * point, weight, lattice, _LANES * vertex)  # type: ignore[call-arg]


@njit(cache=True)
def _blur(values, spare, neighbors):  # type: ignore[no-untyped-def]
    """Blur along all directions; return the result and the other array."""
    for direction in range(len(neighbors)):
        links = neighbors[direction]
        for vertex in range(len(links)):
            one, two = np.int64(links[vertex, 0]), np.int64(links[vertex, 1])
            _add_halves(spare, _LANES * vertex, values, _LANES * one, _LANES * two)  # type: ignore[call-arg]
        values, spare = spare, values
    return values, spare


@intrinsic  # type: ignore[untyped-decorator]
def _add_scaled(context: Any, target: Any, at: Any, weight: Any, source: Any, start: Any) -> Any:
    """Add a weight times four values of the source to four of the target."""
    signature = types.void(target, types.intp, types.float32, source, types.intp)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        places = _places(context, builder, signature, arguments, ((0, 1), (3, 4)))
        old, added = (builder.load(place, align=4) for place in places)
        single = builder.insert_element(
            ir.Constant(_REGISTER, ir.Undefined), arguments[2], ir.Constant(ir.IntType(32), 0)
        )
        weight = builder.shuffle_vector(single, single, _EVERY_LANE)
        product = builder.fmul(weight, added, flags=('contract',))
        builder.store(builder.fadd(old, product, flags=('contract',)), places[0], align=4)
        return context.get_dummy_value()

    return signature, generate


@intrinsic  # type: ignore[untyped-decorator]
def _add_halves(context: Any, target: Any, at: Any, source: Any, one: Any, two: Any) -> Any:
    """Set four values of the target to those of the source plus half of two others of it."""
    signature = types.void(target, types.intp, source, types.intp, types.intp)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        places = _places(context, builder, signature, arguments, ((0, 1), (2, 1), (2, 3), (2, 4)))
        own, one, two = (builder.load(place, align=4) for place in places[1:])
        half = builder.fmul(builder.fadd(one, two), ir.Constant(_REGISTER, [0.5] * _LANES))
        builder.store(builder.fadd(own, half), places[0], align=4)
        return context.get_dummy_value()

    return signature, generate


def _places(context: Any, builder: Any, signature: Any, arguments: Any, pairs: Any) -> list[Any]:
    """Addresses of registers, from numbers of an array and of an index among the arguments."""
    places = []
    for array, index in pairs:
        view = create_struct_proxy(signature.args[array])(context, builder, arguments[array])
        place = builder.gep(view.data, [arguments[index]])
        places.append(builder.bitcast(place, _REGISTER.as_pointer()))
    return places
