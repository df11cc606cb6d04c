from __future__ import annotations

import mmdet.registry
import pytest
from mmengine.registry import DefaultScope, Registry

import cuts3d_mm.registry as ours
from cuts3d_mm.labellers.generator import PseudoLabelGenerator
from cuts3d_mm.labellers.registry import FEATURES

THEIRS = {
    name
    for name, value in vars(mmdet.registry).items()
    if isinstance(value, Registry) and value.scope == 'mmdet'
}
ONE_OF_EACH = {
    'LOG_PROCESSORS': 'LogProcessor',
    'LOOPS': 'IterBasedTrainLoop',
    'OPTIMIZERS': 'SGD',
    'PARAM_SCHEDULERS': 'LinearLR',
    'VISBACKENDS': 'LocalVisBackend',
    'VISUALIZERS': 'DetLocalVisualizer',
}


def test_every_registry_of_mmdetection_has_a_child_of_ours():
    children = {name for name in THEIRS if hasattr(ours, name)}
    # Tools of other packages make runners by name; none of our configs does.
    assert THEIRS - children <= {'RUNNER_CONSTRUCTORS', 'INFERENCERS'}
    assert {name for name, one in vars(ours).items() if isinstance(one, ours.Registry)} == children


@pytest.mark.parametrize('name', ONE_OF_EACH)
def test_a_child_finds_what_its_parents_register(name):
    assert getattr(ours, name).get(ONE_OF_EACH[name]) is not None


@pytest.mark.parametrize('scope', [None, 'mmdet', 'cuts3d_mm', 'mmengine'])
def test_the_generator_is_found_from_any_registry_of_models_and_builds_its_own_parts(scope):
    features = {'type': 'ColorTextureFeatures', 'patch_size': 4}
    with DefaultScope.overwrite_default_scope(scope):
        for registry in (mmdet.registry.MODELS, ours.MODELS, mmdet.registry.MODELS.parent):
            assert registry.get('cuts3d_mm.PseudoLabelGenerator') is PseudoLabelGenerator
        assert FEATURES.build(features).patch_size == 4
