from __future__ import annotations

import numpy as np
import pytest
from helpers.drawn import FEATURES, MASKCUT, cuts3d_model, photo, write_depths
from mmdet.registry import MODELS

from cuts3d_mm.algorithm import cut_instances
from cuts3d_mm.algorithm.ncut import NoConvergence
from cuts3d_mm.images.reading import ImageFailure, NamedImage
from cuts3d_mm.testing import check_labeller


@pytest.fixture
def generator(tmp_path, rng):
    write_depths(tmp_path, ['a/x.png'], rng)
    return MODELS.build(cuts3d_model(tmp_path))


def test_any_mmdetection_project_can_build_and_use_it(generator, rng):
    instances = generator.predict(photo(rng), name='a/x.png')
    assert instances and all(instance.mask.shape == (90, 130) for instance in instances)


def test_it_is_a_labeller_for_images_of_any_shape(rng):
    sizes = [(60, 88), (61, 88), (1, 1), (1, 500), (700, 3)]
    images = [NamedImage(str(hw), rng.integers(0, 256, (*hw, 3), np.uint8)) for hw in sizes]
    check_labeller(MODELS.build(MASKCUT), images=images, exact=True)
    images = [NamedImage(str(i), photo(rng, (60 + i, 88))) for i in range(3)]
    check_labeller(MODELS.build(MASKCUT), images=images, exact=True)


@pytest.mark.parametrize('preset', ['maskcut', 'cuts3d', 'paper', 'paper_v3'])
def test_image_whose_patches_are_all_alike_has_no_instances(tmp_path, rng, preset):
    """Position must not count, else even a grey wall has a left and a right half."""
    write_depths(tmp_path, ['x.png'], rng)
    model = cuts3d_model(tmp_path)
    alike = {**FEATURES, 'position_scale': 1e9}
    generator = MODELS.build({**model, 'features': alike, 'recipe': {'preset': preset}})
    assert generator.predict(np.full((40, 60, 3), 127, np.uint8), name='x.png') == []


def test_explanation_shows_what_the_recipe_saw(generator, rng):
    cuts = generator.explain(photo(rng), name='a/x.png')
    assert cuts.depth.shape == cuts.importance.shape == (12, 16)
    assert 0 <= cuts.depth.min() and cuts.importance.max() <= 1
    assert cuts.instances


def test_image_that_is_not_rgb_is_refused():
    with pytest.raises(ValueError, match=r'image must be \(H, W, 3\) uint8 RGB'):
        MODELS.build(MASKCUT).predict(np.zeros((4, 5), np.uint8))


def test_recipe_in_3d_without_depth_is_refused():
    with pytest.raises(ValueError, match='depth must name a depth source'):
        MODELS.build({'type': 'cuts3d_mm.PseudoLabelGenerator', 'features': FEATURES})


def test_unknown_preset_is_refused():
    with pytest.raises(ValueError, match='recipe.preset must be one of cuts3d, paper'):
        MODELS.build({**MASKCUT, 'recipe': {'preset': 'x'}})


def test_an_image_that_no_solver_can_cut_is_a_failure_of_that_image(rng, monkeypatch):
    def never_converges(*_):
        raise NoConvergence('a solver must find the second eigenvector')

    monkeypatch.setattr(cut_instances, 'second_eigenvector', never_converges)
    with pytest.raises(ImageFailure, match='a solver must find'):
        MODELS.build(MASKCUT).predict(photo(rng))
