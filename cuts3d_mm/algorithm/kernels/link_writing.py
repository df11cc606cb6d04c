"""Mirror and pack blocks of links between patches."""

from __future__ import annotations

import numpy as np
from numba import njit


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
