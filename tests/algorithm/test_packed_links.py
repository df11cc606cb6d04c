from __future__ import annotations

from itertools import combinations_with_replacement

import numpy as np
import pytest

from cuts3d_mm.algorithm.affinity import linked_sums, no_links, pack_links, write_links


def graph(rng, count):
    links = rng.random((count, count)) < 0.3
    return (links | links.T).astype(np.uint8)


@pytest.mark.parametrize('count', [1, 7, 8, 9, 61, 128])
def test_unpacked_links_are_the_packed_ones(rng, count):
    links = graph(rng, count)
    assert (pack_links(links).unpack() == links).all()


@pytest.mark.parametrize('count', [1, 7, 8, 9, 61, 128])
def test_sums_equal_the_matrix_product(rng, count):
    links, vector = graph(rng, count), rng.normal(size=count).astype(np.float32)
    expected = links.astype(np.float64) @ vector
    np.testing.assert_allclose(linked_sums(pack_links(links), vector), expected, atol=1e-5)


def test_links_that_are_not_square_are_refused():
    with pytest.raises(ValueError, match=r'shape \(N, N\), got \(3, 4\)'):
        pack_links(np.zeros((3, 4), np.uint8))


@pytest.mark.parametrize('size', [16, 48, 112])
def test_links_written_tile_by_tile_are_those_packed_at_once(rng, size):
    links = graph(rng, 157)
    packed = no_links(157)
    for row, column in combinations_with_replacement(range(0, 157, size), 2):
        tile = links[row : row + size, column : column + size].astype(bool)
        if row == column:
            tile = np.triu(tile)
        write_links(packed, tile, row, column)
    assert (packed.words == pack_links(links).words).all()
