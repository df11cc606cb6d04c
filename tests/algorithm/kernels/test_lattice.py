from __future__ import annotations

import numpy as np
import pytest
from helpers.drawn import disc, iou, photo

from cuts3d_mm.algorithm import crf
from cuts3d_mm.algorithm.crf import build_lattice, filter_values, refine_masks
from cuts3d_mm.algorithm.params import CrfParams


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


@pytest.mark.parametrize('dimensions', [1, 2, 5])
def test_compiled_filter_equals_the_plain_one(rng, monkeypatch, dimensions):
    lattice = build_lattice(rng.uniform(0, 5, (dimensions, 700)).astype(np.float32))
    values = rng.standard_normal((700, 4)).astype(np.float32)
    compiled = filter_values(lattice, values)
    monkeypatch.setattr(crf, '_filter', crf._filter.plain)
    assert np.allclose(compiled, filter_values(lattice, values), atol=1e-4)


@pytest.mark.parametrize('count', [1, 2, 4, 5])
def test_compiled_inference_equals_the_plain_one(rng, monkeypatch, count):
    image = photo(rng)
    hw = image.shape[:2]
    masks = np.stack([disc((45, 39 + 45 * (i % 2)), 23 - i, hw) for i in range(count)])
    compiled = refine_masks(masks, image, CrfParams())
    monkeypatch.setattr(crf, '_infer', crf._infer.plain)
    plain = refine_masks(masks, image, CrfParams())
    assert all(iou(a, b) >= 0.999 for a, b in zip(compiled, plain, strict=True))
    assert compiled.any(axis=(1, 2)).all() and (compiled != masks).any(axis=(1, 2)).all()
