"""Generator configs that are wrong end `cuts3d generate` with what must hold, and leave no OUT."""

from __future__ import annotations

import pytest
from helpers.drawn import write_images

FEATURES = "dict(type='cuts3d_mm.ColorTextureFeatures')"
MODELS = {
    'x': ("'x'", "labeller must be a dict with a type, as dict(type='cuts3d_mm."),
    'none': ('None', 'labeller must be a dict with a type'),
    'no type': (f'dict(features={FEATURES})', 'labeller must be a dict with a type'),
    'a dot': ("dict(type='.Foo')", 'type must be a labeller (DetectorLabeller, Emb'),
    'a number': ('dict(type=3)', 'in the folder of CONFIG, got 3'),
    'no such class': (
        "dict(type='cuts3d_mm.Foo')",
        "of CONFIG, got 'cuts3d_mm.Foo'",
    ),
    'no features': ("dict(type='cuts3d_mm.PseudoLabelGenerator')", 'must be given features'),
    'features of none': (
        "dict(type='cuts3d_mm.PseudoLabelGenerator', features=None)",
        'feature source must be a dict with a type',
    ),
    'features of another kind': (
        "dict(type='cuts3d_mm.PseudoLabelGenerator', features=dict(type='.Foo'))",
        'type must be a feature source (ColorTextureFeatures',
    ),
    'unknown argument': (
        f"dict(type='cuts3d_mm.PseudoLabelGenerator', features={FEATURES}, colour=1)",
        'has no argument colour; it has crops, depth, embed, features, input_hw, recipe',
    ),
    'depth without a type': (
        f"dict(type='cuts3d_mm.PseudoLabelGenerator', features={FEATURES}, depth=dict(root='d'))",
        'depth source must be a dict with a type',
    ),
    'depth that is text': (
        f"dict(type='cuts3d_mm.PseudoLabelGenerator', features={FEATURES}, depth='d')",
        'depth source must be a dict with a type',
    ),
    'no depth': (
        f"dict(type='cuts3d_mm.PseudoLabelGenerator', features={FEATURES})",
        'depth must name a depth source for this recipe, got None',
    ),
    'a recipe that is text': (
        f"dict(type='cuts3d_mm.PseudoLabelGenerator', features={FEATURES}, recipe='maskcut')",
        "recipe must be a dict, such as dict(preset='maskcut'), got 'maskcut'",
    ),
}


@pytest.mark.parametrize('name', MODELS)
def test_a_malformed_model_is_a_mistake_in_one_line(cuts3d, tmp_path, rng, name):
    text, message = MODELS[name]
    write_images(tmp_path / 'images', 1, rng)
    (tmp_path / 'config.py').write_text(f'model = {text}\n')
    arguments = (tmp_path / 'config.py', tmp_path / 'images', tmp_path / 'out', '--workers', 0)
    code, _, err = cuts3d('generate', *arguments)
    assert code == 2 and message in err and err.count('\n') == 1, err
    assert not (tmp_path / 'out').exists()
