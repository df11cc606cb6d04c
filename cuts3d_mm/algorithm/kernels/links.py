"""Write packed links and sum over them, compiled."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from cuts3d_mm.algorithm.affinity import LANES, WORDS_AT_ONCE

_INDEX = ir.IntType(64)
_WORD = ir.IntType(LANES)
_FLOAT = ir.FloatType()
_SUMS = ir.VectorType(_FLOAT, LANES)
_IS_SET = ir.VectorType(ir.IntType(1), LANES)
_EVERY_LANE = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)


@njit(cache=True)
def add_linked(words, vector, sums):  # type: ignore[no-untyped-def]
    """Add entry j of the vector to sum 16 w + b where bit b of [w, j] is set."""
    for first in range(0, len(words), WORDS_AT_ONCE):
        _sum_where_set(  # type: ignore[call-arg]
            words[first].ctypes.data,
            words.shape[1],
            vector.ctypes.data,
            len(vector),
            sums[first].ctypes.data,
        )


@intrinsic  # type: ignore[untyped-decorator]
def _sum_where_set(
    context: Any, words: Any, stride: Any, vector: Any, count: Any, sums: Any
) -> Any:
    """Sum the entries of a vector for 8 words of 16 lanes.

    Args:
        words: address of uint16, word r of entry j at r * stride + j.
        stride: entries from one word to the next.
        vector: address of float32.
        count: entries of the vector, at least 1.
        sums: address of (8, 16) float32, is overwritten.
    """
    signature = types.void(types.intp, types.intp, types.intp, types.intp, types.intp)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        words, stride, vector, count, sums = arguments
        words = builder.inttoptr(words, _WORD.as_pointer())
        vector = builder.inttoptr(vector, _FLOAT.as_pointer())
        totals = _loop(builder, words, stride, vector, count)
        for row, total in enumerate(totals):
            offset = ir.Constant(_INDEX, row * LANES * 4)
            place = builder.inttoptr(builder.add(sums, offset), _SUMS.as_pointer())
            builder.store(total, place, align=4)
        return context.get_dummy_value()

    return signature, generate


def _loop(builder: Any, words: Any, stride: Any, vector: Any, count: Any) -> list[Any]:
    """Emit the loop over the entries; return the eight registers of sums after it."""
    before = builder.block
    loop = builder.append_basic_block('entries')
    after = builder.append_basic_block('after')
    builder.branch(loop)
    builder.position_at_end(loop)
    entry = builder.phi(_INDEX)
    totals = [builder.phi(_SUMS) for _ in range(WORDS_AT_ONCE)]
    added = _in_every_lane(builder, builder.load(builder.gep(vector, [entry])))
    place = entry
    for total in totals:
        is_set = builder.bitcast(builder.load(builder.gep(words, [place])), _IS_SET)
        new_total = builder.select(is_set, builder.fadd(total, added), total)
        total.add_incoming(ir.Constant(_SUMS, [0.0] * LANES), before)
        total.add_incoming(new_total, loop)
        place = builder.add(place, stride)
    following = builder.add(entry, ir.Constant(_INDEX, 1))
    entry.add_incoming(ir.Constant(_INDEX, 0), before)
    entry.add_incoming(following, loop)
    builder.cbranch(builder.icmp_signed('<', following, count), loop, after)
    builder.position_at_end(after)
    return [total.incomings[1][0] for total in totals]


def _in_every_lane(builder: Any, value: Any) -> Any:
    nothing = ir.Constant(_SUMS, ir.Undefined)
    single = builder.insert_element(nothing, value, ir.Constant(_EVERY_LANE.type.element, 0))
    return builder.shuffle_vector(single, nothing, _EVERY_LANE)


@njit(cache=True)
def mirror(block):  # type: ignore[no-untyped-def]
    """Copy the upper triangle of a block into its lower one."""
    for row in range(len(block)):
        for column in range(row):
            block[row, column] = block[column, row]


@njit(cache=True)
def pack_columns(block, words):  # type: ignore[no-untyped-def]
    """Set bit r of word w of column i to entry (16 w + r, i) of a block."""
    for row in range(len(block)):
        word, entries = words[row // 16], block[row]
        bit = np.uint16(row % 16)
        for column in range(len(entries)):
            word[column] |= np.uint16(entries[column]) << bit


@njit(cache=True)
def take_nodes(words, nodes, taken):  # type: ignore[no-untyped-def]
    """Set bit b of word w to that of node `nodes[16 w + b]`, in empty words."""
    for place in range(len(nodes)):
        entries, shift = words[nodes[place] // 16], np.uint16(nodes[place] % 16)
        word, bit = taken[place // 16], np.uint16(place % 16)
        for column in range(len(entries)):
            word[column] |= ((entries[column] >> shift) & np.uint16(1)) << bit
