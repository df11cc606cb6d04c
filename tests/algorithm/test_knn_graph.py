from __future__ import annotations

import numpy as np
import pytest
import reference

from cuts3d_mm.algorithm.local_cut import connect_neighbors


@pytest.mark.parametrize('count', [2, 5, 11, 60])
@pytest.mark.parametrize('num_neighbors', [1, 4, 10])
def test_edges_equal_brute_force(rng, count, num_neighbors):
    points = rng.uniform(0, 1, (count, 3)).astype(np.float32)
    edges = connect_neighbors(points, num_neighbors)
    found = set(zip(edges.first.tolist(), edges.second.tolist(), strict=True))
    assert found == reference.neighbor_pairs(points, num_neighbors)
    assert np.allclose(
        edges.length, np.linalg.norm(points[edges.first] - points[edges.second], axis=1)
    )


@pytest.mark.parametrize('count', [0, 1])
def test_too_few_points_have_no_edges(count):
    assert connect_neighbors(np.zeros((count, 3), np.float32), 3).first.size == 0


def test_equal_points_are_connected_without_loops():
    edges = connect_neighbors(np.zeros((6, 3), np.float32), 3)
    assert (edges.first < edges.second).all() and (edges.length == 0).all()


def test_no_neighbors_is_refused():
    with pytest.raises(ValueError, match='num_neighbors must be at least 1'):
        connect_neighbors(np.zeros((4, 3), np.float32), 0)
