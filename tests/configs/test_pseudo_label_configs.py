from __future__ import annotations

from pathlib import Path

import pytest
from mmengine.config import Config

from cuts3d_mm.algorithm.params import CutParams
from cuts3d_mm.generation.generator import build_params
from cuts3d_mm.registry import MODELS

FOLDER = Path(__file__).parents[2] / 'configs/pseudo_labels'
CONFIGS = sorted(path.name for path in FOLDER.glob('*.py'))
VIT_CONFIGS = {
    'cuts3d_dino-vitb8_zoedepth.py': 'vit_base_patch8_224.dino',
    'cuts3d_dino-vits8_zoedepth.py': 'vit_small_patch8_224.dino',
    'cuts3d_dinov2-vits14_zoedepth.py': 'vit_small_patch14_dinov2',
    'cuts3d_dinov2-vitb14_zoedepth.py': 'vit_base_patch14_dinov2',
}


def model_of(name):
    return Config.fromfile(str(FOLDER / name)).to_dict()['model']


@pytest.mark.parametrize('name', CONFIGS)
def test_config_says_what_it_is_and_has_a_valid_recipe(name):
    text = (FOLDER / name).read_text()
    assert text.startswith('"""')
    params = build_params(model_of(name)['recipe'])
    assert (params.local_cut is None) == name.startswith('maskcut')


@pytest.mark.parametrize('name', [name for name in CONFIGS if 'dino' in name])
def test_configs_of_the_paper_keep_the_values_that_it_states(name):
    model = model_of(name)
    params = build_params(model['recipe'])
    if name.startswith('cuts3d'):
        assert params.importance.beta == 0.45
        assert params == CutParams()
    assert params.ncut.tau_ncut == 0.15 and params.max_instances == 3
    assert model['input_hw'] in ((480, 480), (476, 476))


@pytest.mark.slow
@pytest.mark.parametrize('name', VIT_CONFIGS)
def test_published_weights_fit_the_network(name):
    timm = pytest.importorskip('timm')
    pytest.importorskip('mmpretrain.models')
    from cuts3d_mm.hub.converters.dino import convert_backbone

    features = model_of(name)['features']
    extractor = MODELS.build({**features, 'checkpoint': None})
    published = timm.create_model(VIT_CONFIGS[name], num_classes=0).state_dict()
    expected = extractor.network.state_dict()
    assert convert_backbone(published).weights.keys() == expected.keys()
    assert VIT_CONFIGS[name].split('.')[0] in features['checkpoint']
