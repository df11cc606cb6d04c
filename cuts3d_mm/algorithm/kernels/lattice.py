"""Build the permutohedral lattice and blur values on it, compiled."""

# mypy: disable-error-code="no-untyped-def, call-arg, var-annotated"

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core.cgutils import create_struct_proxy
from numba.extending import intrinsic, models, register_model

_BLOCK = 256  # points at a time
_UNIT = np.float32(2**26)  # of an offset; the largest one is 3
_AXIS_BITS = 3
_AXIS = 2**_AXIS_BITS - 1
_FIRST_SLOTS = 2**20  # of the hash table, doubled as needed; photos seldom need more
_MIX = np.int64(-7046029254386353131)  # 2^64 / golden ratio
_FILTER_BLOCK = 128  # points at a time, whose values stay in the nearest cache
_SPATIAL, _BILATERAL = (0, 1, 2), (0, 1, 2, 3, 4, 5)  # vertices of a simplex
_FLOAT, _INT = ir.FloatType(), ir.IntType(32)


@njit(cache=True)
def lay_out(positions, scale, moves):
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
def _elevate(positions, start, stop, scale, moves, offsets, bases):
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
def _sort(offsets, count):
    """Sort the offsets of each point, the largest first."""
    for last in range(len(offsets) - 1, 0, -1):
        for axis in range(last):
            first, second = offsets[axis], offsets[axis + 1]
            for lane in range(count):
                one, two = first[lane], second[lane]
                first[lane], second[lane] = max(one, two), min(one, two)


@njit(cache=True)
def _weigh(offsets, weights):
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
def _insert(offsets, bases, moves, table, keys, used, vertices):
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
def _find_slot(table, keys, key):
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
def _grow(table, keys, used, most):
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
def _link(table, keys, used, moves):
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
def filter_values(vertices, weights, neighbors, values, lanes):
    """Return the values of P points, filtered; as many follow one another as there are lanes."""
    first, second = _empty_lattice(lanes, neighbors)
    filtered, corners = np.zeros(values.size, np.float32), range(vertices.shape[1])
    for point in range(len(vertices)):
        _add(lanes, first, vertices, weights, point, _load(lanes, values, point), corners)
    blurred, _ = _blur(lanes, first, second, neighbors)
    for point in range(len(vertices)):
        nothing = _load(lanes, filtered, point)
        value = _read(lanes, blurred, vertices, weights, point, nothing, corners)
        _store(lanes, filtered, point, value)
    return filtered


@njit(cache=True)
def infer_masks(masks, logit, num_iterations, spatial, bilateral, lanes):
    """Return the masks of which a mean field makes some (n, P) masks.

    Args:
        logit: float32, log odds of a mask.
        spatial: vertices, weights and neighbours of the lattice in 2 dimensions.
        bilateral: the same in 5 dimensions.
        lanes: tuple as long as a register, with room for n masks.
    """
    count, width = masks.shape[1], len(lanes)
    signs, inferred = _signs(masks, width), np.empty(masks.shape, np.bool_)
    near, near_next = _empty_lattice(lanes, spatial[2])
    far, far_next = _empty_lattice(lanes, bilateral[2])
    fields = np.empty(width * _FILTER_BLOCK, np.float32)
    for iteration in range(num_iterations + 1):
        if iteration > 0:
            near, near_next = _blur(lanes, near_next, near, spatial[2])
            far, far_next = _blur(lanes, far_next, far, bilateral[2])
            _clear(near_next)
            _clear(far_next)
        for start in range(0, count, _FILTER_BLOCK):
            block = min(_FILTER_BLOCK, count - start)
            for place in range(block):
                point = start + place
                value = _load_signs(lanes, signs, point, logit)
                if iteration > 0:
                    value = _read(lanes, near, spatial[0], spatial[1], point, value, _SPATIAL)
                    value = _read(lanes, far, bilateral[0], bilateral[1], point, value, _BILATERAL)
                _store(lanes, fields, place, value)
            if iteration == num_iterations:
                _threshold(fields, width, inferred, start, block)
                continue
            _squash(fields)
            for place in range(block):
                point, value = start + place, _load(lanes, fields, place)
                _add(lanes, near_next, spatial[0], spatial[1], point, value, _SPATIAL)
                _add(lanes, far_next, bilateral[0], bilateral[1], point, value, _BILATERAL)
    return inferred


@njit(cache=True)
def _empty_lattice(lanes, neighbors):
    size = len(lanes) * (neighbors.shape[1] + 1)  # the last vertex stands for a missing neighbour
    return np.zeros(size, np.float32), np.zeros(size, np.float32)


@njit(cache=True)
def _clear(values):
    for index in range(values.size):  # compiles in a fraction of the time of a slice
        values[index] = 0


@njit(cache=True)
def _signs(masks, width):
    """1 where a mask holds a point, -1 where it does not, 0 in lanes without a mask."""
    signs = np.zeros(width * masks.shape[1], np.int8)
    for lane in range(len(masks)):
        mask = masks[lane]
        for point in range(len(mask)):
            signs[width * point + lane] = 1 if mask[point] else -1
    return signs


@njit(cache=True)
def _threshold(fields, width, masks, start, count):
    for lane in range(len(masks)):
        for place in range(count):
            masks[lane, start + place] = fields[width * place + lane] > 0


@njit(cache=True, error_model='numpy')
def _squash(fields):
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
def _add(lanes, lattice, vertices, weights, point, value, corners):
    """Add the value of a point to the vertices around it."""
    for corner in range(len(corners)):
        vertex = np.int64(vertices[point, corner])
        old = _load(lanes, lattice, vertex)
        _store(lanes, lattice, vertex, _plus_product(old, weights[point, corner], value))


@njit(cache=True)
def _read(lanes, lattice, vertices, weights, point, value, corners):
    """Return a value plus those of the vertices around a point."""
    for corner in range(len(corners)):
        found = _load(lanes, lattice, np.int64(vertices[point, corner]))
        value = _plus_product(value, weights[point, corner], found)
    return value


@njit(cache=True)
def _blur(lanes, values, spare, neighbors):
    """Blur along all directions; return the result and the other array."""
    for direction in range(len(neighbors)):
        links = neighbors[direction]
        for vertex in range(len(links)):
            one = _load(lanes, values, np.int64(links[vertex, 0]))
            two = _load(lanes, values, np.int64(links[vertex, 1]))
            _store(lanes, spare, vertex, _plus_half(_load(lanes, values, vertex), one, two))
        values, spare = spare, values
    return values, spare


class _Register(types.Type):  # type: ignore[misc]
    """A vector register of float32; the lanes of an array are those that follow one another."""

    def __init__(self, width: int) -> None:
        self.width = width
        super().__init__(f'Register({width})')


@register_model(_Register)
class _RegisterModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, register: _Register) -> None:
        super().__init__(manager, register, ir.VectorType(_FLOAT, register.width))


@intrinsic  # type: ignore[untyped-decorator]
def _load(context: Any, lanes: Any, array: Any, index: Any) -> Any:
    """Load the register at an index, in units of its width."""
    width = lanes.count

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(_place(context, builder, signature, arguments, width, _FLOAT), align=4)

    return _Register(width)(lanes, array, types.intp), generate


@intrinsic  # type: ignore[untyped-decorator]
def _load_signs(context: Any, lanes: Any, signs: Any, index: Any, factor: Any) -> Any:
    """Load int8 signs, times a factor."""
    width = lanes.count

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _place(context, builder, signature, arguments, width, ir.IntType(8))
        loaded = builder.sitofp(builder.load(place, align=1), ir.VectorType(_FLOAT, width))
        return builder.fmul(loaded, _in_all_lanes(builder, arguments[3], width))

    return _Register(width)(lanes, signs, types.intp, types.float32), generate


@intrinsic  # type: ignore[untyped-decorator]
def _store(context: Any, lanes: Any, array: Any, index: Any, register: Any) -> Any:
    """Store a register at an index, in units of its width."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _place(context, builder, signature, arguments, register.width, _FLOAT)
        builder.store(arguments[3], place, align=4)
        return context.get_dummy_value()

    return types.void(lanes, array, types.intp, register), generate


@intrinsic  # type: ignore[untyped-decorator]
def _plus_product(context: Any, register: Any, weight: Any, other: Any) -> Any:
    """Return a register plus a weight times another."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        weight = _in_all_lanes(builder, arguments[1], register.width)
        product = builder.fmul(weight, arguments[2], flags=('contract',))
        return builder.fadd(arguments[0], product, flags=('contract',))

    return register(register, types.float32, other), generate


@intrinsic  # type: ignore[untyped-decorator]
def _plus_half(context: Any, register: Any, one: Any, two: Any) -> Any:
    """Return a register plus half of two others."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        half = ir.Constant(ir.VectorType(_FLOAT, register.width), [0.5] * register.width)
        added = builder.fmul(builder.fadd(arguments[1], arguments[2]), half)
        return builder.fadd(arguments[0], added)

    return register(register, one, two), generate


def _place(
    context: Any, builder: Any, signature: Any, arguments: Any, width: int, kind: Any
) -> Any:
    """Address of the register at the index in argument 2, in the array in argument 1."""
    view = create_struct_proxy(signature.args[1])(context, builder, arguments[1])
    start = builder.mul(arguments[2], ir.Constant(arguments[2].type, width))
    place = builder.gep(view.data, [start])
    return builder.bitcast(place, ir.VectorType(kind, width).as_pointer())


def _in_all_lanes(builder: Any, value: Any, width: int) -> Any:
    register = ir.VectorType(_FLOAT, width)
    single = builder.insert_element(
        ir.Constant(register, ir.Undefined), value, ir.Constant(_INT, 0)
    )
    return builder.shuffle_vector(
        single, single, ir.Constant(ir.VectorType(_INT, width), [0] * width)
    )
