"""The graph of links, one bit each, and its product with a vector.

The packed graph of 3600 patches is 1.6 MB and stays in the cache where one byte per link does
not. A product adds each entry of the vector to those of 16 sums at a time whose bit is set.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cuts3d_mm.algorithm.kernels.kernel import Kernel
from cuts3d_mm.algorithm.link_layout import LANES, WORDS_AT_ONCE
from cuts3d_mm.arrays import Float

Links = NDArray[np.uint8] | NDArray[np.bool_]
Words = NDArray[np.uint16]


@dataclass(frozen=True)
class PackedLinks:
    """Links between N nodes and M of them, called neighbours; M = N for the whole graph."""

    # (W, M) with 16 W >= N: bit b of [w, j] is the link of node 16 w + b and neighbour j.
    # W is a multiple of 8.
    words: Words
    num_nodes: int

    def __len__(self) -> int:
        return self.num_nodes

    def only_to(self, is_kept: NDArray[np.bool_]) -> PackedLinks:
        """Keep only some of the neighbours.

        Args:
            is_kept: (M,).
        """
        return PackedLinks(self.words.take(np.flatnonzero(is_kept), axis=1), self.num_nodes)

    def unpack(self) -> NDArray[np.uint8]:
        """Return the links as an (M, N) array of 0 and 1."""
        octets = np.ascontiguousarray(self.words.T).view(np.uint8)
        return np.unpackbits(octets, axis=1, count=self.num_nodes, bitorder='little')


def no_links(count: int) -> PackedLinks:
    """Make a graph of N nodes and no links, for `write_links` to fill."""
    num_blocks = -(-count // (LANES * WORDS_AT_ONCE))
    return PackedLinks(np.zeros((num_blocks * WORDS_AT_ONCE, count), np.dtype('<u2')), count)


def pack_links(links: Links) -> PackedLinks:
    """Pack links.

    Args:
        links: (N, N) symmetric, 1 = linked.
    """
    if links.ndim != 2 or links.shape[0] != links.shape[1]:
        raise ValueError(f'links must have shape (N, N), got {links.shape}')
    packed = no_links(len(links))
    write_links(packed, links.astype(bool), 0, 0)
    return packed


def write_links(packed: PackedLinks, block: NDArray[np.bool_], row: int, column: int) -> None:
    """Write the links between some nodes and some that are not before them, in both directions.

    Args:
        packed: is changed; these links must be empty.
        block: (B, C), the links of nodes `row` to `row` + B with nodes `column` to `column` + C.
            On the diagonal, where B = C, entries below it are not used but overwritten.
        row: a multiple of 16.
        column: a multiple of 16, `row` on the diagonal, else at least `row` + B.
    """
    num_rows, num_columns = block.shape
    if row == column:
        _mirror(block)
    else:
        words = packed.words[row // LANES :, column : column + num_columns]
        _pack_columns(block.view(np.uint8), words)
    octets = np.packbits(block, axis=1, bitorder='little')
    row_words = np.zeros((num_rows, -(-num_columns // LANES)), packed.words.dtype)
    row_words.view(np.uint8)[:, : octets.shape[1]] = octets
    first_word = column // LANES
    words = packed.words[first_word : first_word + row_words.shape[1], row : row + num_rows]
    words[:] = row_words.T


def linked_sums(links: PackedLinks, vector: Float) -> Float:
    """Sum, for every node, the entries of a vector at the neighbours that it is linked to.

    Args:
        vector: (M,) float32, one entry per neighbour.

    Returns:
        (N,) float32, the product of the 0/1 graph and the vector.
    """
    sums = np.zeros((len(links.words), LANES), np.float32)
    if len(vector):
        _add_linked(links.words, np.ascontiguousarray(vector), sums)
    return sums.reshape(-1)[: links.num_nodes]


def _mirror_plain(block: NDArray[np.bool_]) -> None:
    """Copy the upper triangle into the lower one: rounding must not make them differ."""
    square = block[:, : len(block)]
    np.copyto(square, square.T.copy(), where=np.tri(len(block), k=-1, dtype=bool))


def _pack_columns_plain(block: NDArray[np.uint8], words: Words) -> None:
    """Set bit r of word w of column i to entry (16 w + r, i) of the block."""
    columns = np.ascontiguousarray(block.T)
    octets = np.zeros((len(columns), 2 * len(words)), np.uint8)
    packed = np.packbits(columns, axis=1, bitorder='little')
    octets[:, : packed.shape[1]] = packed
    words |= octets.view(words.dtype).T


def _add_linked_plain(words: Words, vector: Float, sums: Float) -> None:
    """Add entry j of the vector to sum 16 w + b where bit b of [w, j] is set, one j at a time.

    The order of the additions is that of the compiled code, so that the sums are equal.
    """
    for column, entry in zip(words.T, vector, strict=True):
        octets = np.ascontiguousarray(column).view(np.uint8)
        is_linked = np.unpackbits(octets, bitorder='little').astype(bool).reshape(sums.shape)
        np.add(sums, entry, out=sums, where=is_linked)


_mirror = Kernel('links.mirror', _mirror_plain)
_pack_columns = Kernel('links.pack_columns', _pack_columns_plain)
_add_linked = Kernel('links.add_linked', _add_linked_plain)
