from __future__ import annotations

import numpy as np
import pytest
from drawn import disc, features_of

from cuts3d_mm.algorithm import affinity
from cuts3d_mm.algorithm.affinity import LANES, link_patches


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
