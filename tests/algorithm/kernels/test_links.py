from __future__ import annotations

import numpy as np
import pytest
from helpers.drawn import disc, features_of

from cuts3d_mm.algorithm import affinity
from cuts3d_mm.algorithm.affinity import LANES, link_patches


@pytest.mark.parametrize('num_rows', [1, 15, 32, 40])
def test_compiled_and_plain_code_mirror_pack_and_take_alike(rng, num_rows):
    block = rng.random((num_rows, 40)) < 0.4
    nodes = np.flatnonzero(rng.random(num_rows) < 0.7)
    results = []
    for choice in ('compiled', 'plain'):
        mirrored, words, taken = block.copy(), *np.zeros((2, 8, 40), np.uint16)
        for kernel, arguments in (
            (affinity._mirror, (mirrored,)),
            (affinity._pack_columns, (mirrored.view(np.uint8), words)),
            (affinity._take_nodes, (words, nodes, taken)),
        ):
            function = kernel.plain if choice == 'plain' else kernel.compiled()
            function(*arguments)
        results.append((mirrored.tobytes(), words.tobytes(), taken.tobytes()))
    assert results[0] == results[1]
    square = np.frombuffer(results[0][0], bool).reshape(block.shape)[:, :num_rows]
    assert (square == square.T).all()


@pytest.mark.parametrize('grid_hw', [(4, 7), (18, 26), (29, 23)])
def test_compiled_sums_equal_the_plain_ones_bit_by_bit(rng, grid_hw):
    labels = disc((grid_hw[0] / 2, grid_hw[1] / 3), grid_hw[0] / 3, grid_hw).astype(int)
    links = link_patches(features_of(labels, rng).reshape(-1, 48), 0.15)
    vector = rng.standard_normal(len(links)).astype(np.float32)
    kernel, found = affinity._add_linked, []
    for add_linked in (kernel.compiled(), kernel.plain):
        sums = np.zeros((len(links.words), LANES), np.float32)
        add_linked(links.words, vector, sums)
        found.append(sums.tobytes())
    assert found[0] == found[1] and np.frombuffer(found[0], np.float32).any()
