from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from helpers.drawn import disc

from cuts3d_mm.algorithm import local_cut
from cuts3d_mm.algorithm.local_cut import build_cloud, cut_cloud
from cuts3d_mm.algorithm.params import LocalCutParams

GRID_HW = 13, 17
NEIGHBORHOODS = ('grid', 'knn')
RULES = ('step', 'affinity', 'distance')
CHOICES = list(product(NEIGHBORHOODS, RULES, ('single', 'regional'), ('drop', 'far')))


def clouds(params, count):
    """Clouds of noisy planes behind each other; depth takes few values, so that ties occur."""
    for seed in range(count):
        rng = np.random.default_rng(seed)
        planes = rng.integers(0, 4, 3)
        depth = planes[0] * np.ones(GRID_HW)
        for plane in planes[1:]:
            depth[disc(rng.uniform(0, 17, 2), rng.uniform(2, 7), GRID_HW)] = plane
        depth = 0.08 * depth + 0.02 * rng.integers(0, 3, GRID_HW)
        semantic = (depth < rng.uniform(0.1, 0.4)) | disc((6, 8), 3, GRID_HW)
        eigenvector = np.where(semantic, 1.0, -0.3).ravel() + 0.3 * rng.standard_normal(221)
        yield build_cloud(semantic.ravel(), eigenvector, depth.astype(np.float32), params)


@pytest.mark.parametrize('choice', CHOICES, ids='-'.join)
def test_compiled_cuts_equal_those_of_scipy(choice, monkeypatch):
    neighborhood, capacity, terminals, outside = choice
    params = LocalCutParams(
        neighborhood=neighborhood,
        capacity=capacity,
        terminals=terminals,
        terminal_fraction=0.05,
        outside=outside,
    )
    found = {}
    kernel = local_cut._source_side
    for function in (kernel.compiled(), kernel.plain):
        monkeypatch.setattr(local_cut, '_source_side', function)
        found[function] = [
            cut_cloud(cloud, tau, params)
            for cloud in clouds(params, 12)
            for tau in (0.004, 0.021, 0.045, 0.115, 2.0)
        ]
    compiled, plain = found.values()
    assert np.array_equal(compiled, plain)
    assert len({mask.tobytes() for mask in plain}) > 12


def test_sides_of_random_graphs_equal_those_of_scipy():
    kernel = local_cut._source_side
    compiled = kernel.compiled()
    for seed in range(300):
        rng = np.random.default_rng(seed)
        count = int(rng.integers(4, 40))
        first, second = np.sort(rng.integers(0, count, (2, rng.integers(0, 4 * count))), axis=0)
        is_edge = first < second
        units = rng.integers(1, 5, is_edge.sum()).astype(np.int32)
        terminals = rng.permutation(count)
        ends = terminals[: rng.integers(1, 3)], terminals[2 : rng.integers(2, 5)]
        arguments = first[is_edge], second[is_edge], units, count, *ends
        assert np.array_equal(compiled(*arguments), kernel.plain(*arguments))
