from __future__ import annotations

from itertools import combinations

import numpy as np
from drawn import GRID_HW, disc

from cuts3d_mm.algorithm.local_cut import connect_patches


def test_edges_are_all_pairs_of_touching_patches(rng):
    patches = np.flatnonzero(disc((9, 8), 5) | disc((3, 20), 2))
    depth = rng.random(len(patches), dtype=np.float32)
    edges = connect_patches(patches, depth, GRID_HW)
    places = [divmod(int(patch), GRID_HW[1]) for patch in patches]
    exact = [
        (i, j)
        for i, j in combinations(range(len(patches)), 2)
        if max(abs(a - b) for a, b in zip(places[i], places[j], strict=True)) == 1
    ]
    assert list(zip(edges.first.tolist(), edges.second.tolist(), strict=True)) == exact
    assert np.allclose(edges.length, [abs(depth[i] - depth[j]) for i, j in exact])


def test_single_patch_has_no_edge():
    edges = connect_patches(np.array([7]), np.zeros(1, np.float32), GRID_HW)
    assert len(edges.first) == len(edges.second) == len(edges.length) == 0
