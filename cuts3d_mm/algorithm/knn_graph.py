"""Connect points to their nearest neighbours in a symmetric k-NN graph."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cuts3d_mm.arrays import Index


@dataclass(frozen=True)
class Edges:
    """Undirected edges of a graph, each once, with first < second, sorted."""

    first: Index  # (E,)
    second: Index  # (E,)
    length: NDArray[np.float64]  # (E,) Euclidean, in the unit of the points


def connect_neighbors(points: NDArray[np.float32], num_neighbors: int) -> Edges:
    """Connect every point to its nearest ones; an edge counts if either end chose it.

    Args:
        points: (n, 3). Fewer than `num_neighbors` + 1 points are all connected.
        num_neighbors: k, at least 1.
    """
    from scipy.spatial import cKDTree  # a tenth of a second that cuts on the grid need not take

    if num_neighbors < 1:
        raise ValueError(f'num_neighbors must be at least 1, got {num_neighbors}')
    count = len(points)
    if count < 2:
        none = np.empty(0, np.int64)
        return Edges(none, none, np.empty(0))
    neighbors = min(num_neighbors, count - 1)
    # The nearest point is nearly always the query itself; duplicates are sorted out below.
    _, found = cKDTree(points).query(points, neighbors + 1)
    start = np.repeat(np.arange(count), neighbors + 1)
    pairs = np.sort(np.stack([start, found.ravel()]), axis=0)
    codes = np.unique(pairs[0, pairs[0] < pairs[1]] * count + pairs[1, pairs[0] < pairs[1]])
    first, second = np.divmod(codes, count)
    difference = points[first].astype(np.float64) - points[second]
    return Edges(first, second, np.sqrt((difference**2).sum(axis=1)))
