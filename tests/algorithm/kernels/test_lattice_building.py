from __future__ import annotations

import numpy as np
import pytest

from cuts3d_mm.algorithm import crf
from cuts3d_mm.algorithm.crf import build_lattice


def links_of(lattice, names):
    """Direction and both vertices of each link, vertices by their names."""
    directions, vertices = np.nonzero(lattice.neighbors[..., 0] < len(names))
    others = lattice.neighbors[directions, vertices, 0]
    return {
        (int(direction), names[vertex], names[other])
        for direction, vertex, other in zip(directions, vertices, others, strict=True)
    }


@pytest.mark.parametrize('dimensions', [1, 2, 3, 5])
def test_compiled_lattice_is_the_plain_one_with_other_numbers(rng, monkeypatch, dimensions):
    positions = rng.uniform(-9, 3, (dimensions, 700)).astype(np.float32)
    compiled = build_lattice(positions)
    monkeypatch.setattr(crf, '_lay_out', crf._lay_out.plain)
    plain = build_lattice(positions)
    assert compiled.neighbors.shape == plain.neighbors.shape
    assert np.allclose(compiled.weights, plain.weights, atol=1e-5)
    names = dict(zip(compiled.vertices.ravel(), plain.vertices.ravel(), strict=True))
    assert (np.vectorize(names.get)(compiled.vertices) == plain.vertices).all()
    own_names = {vertex: vertex for vertex in names.values()}
    assert links_of(compiled, names) == links_of(plain, own_names)
