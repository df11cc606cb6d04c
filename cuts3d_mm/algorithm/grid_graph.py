"""Connect every patch of a mask with the eight patches around it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cuts3d_mm.algorithm.knn_graph import Edges
from cuts3d_mm.arrays import Index

# Right, below, and the two diagonals below: each pair of neighbours is met once.
_OFFSETS = ((0, 1), (1, -1), (1, 0), (1, 1))


def connect_patches(patches: Index, depth: NDArray[np.float32], grid_hw: tuple[int, int]) -> Edges:
    """Connect patches that touch on the grid, corners included.

    All neighbours are connected. Among the k nearest in 3D, many lie at equal distances on the
    grid, and which of them are connected would be arbitrary.

    Args:
        patches: (n,) indices into the grid, rising.
        depth: (n,) of each.
        grid_hw: (h, w).

    Returns:
        Edges between positions in `patches`; their length is the depth step.
    """
    height, width = grid_hw
    node = np.full((height, width), -1, np.int64)
    node.flat[patches] = np.arange(len(patches))
    pairs = []
    for down, right in _OFFSETS:
        left = max(0, -right)
        first = node[: height - down, left : width - max(0, right)]
        second = node[down:, left + right : width + min(0, right)]
        is_edge = (first >= 0) & (second >= 0)
        pairs.append(np.stack([first[is_edge], second[is_edge]]))
    first, second = np.concatenate(pairs, axis=1)
    order = np.lexsort((second, first))
    first, second = first[order], second[order]
    step = np.abs(depth[first].astype(np.float64) - depth[second])
    return Edges(first, second, step)
