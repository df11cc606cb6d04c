from __future__ import annotations

import re
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmdet.models.backbones import ResNet
from mmengine.config import Config
from PIL import Image

from cuts3d_mm.algorithm.params import CutParams
from cuts3d_mm.images.reading import NamedImage
from cuts3d_mm.labellers.registry import DEPTH, FEATURES, LABELLERS, build_params

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


# Config that says it is the paper's -> its preset, and what else differs from it.
PAPER_CONFIGS = {
    'paper_dino-vitb8_zoedepth': ('paper', {}),
    'paper_diffncuts-vits8_zoedepth': ('paper', {}),
    'paper_diffncuts-vits8_marigold': ('paper', {}),
    'paper_diffncuts-vits8_kick-back-relax': ('paper', {}),
    'paper-v3_diffncuts-vits8_zoedepth': ('paper_v3', {}),
    'paper-v3_diffncuts-vits8_midas-small': ('paper_v3', {}),
    'paper_dino-vitb8_zoedepth_no-importance': ('paper', {'importance': None}),
    'paper_diffncuts-vits8_zoedepth_no-importance': ('paper', {'importance': None}),
    'paper_diffncuts-vits8_zoedepth_tau-knn-080': ('paper', {'local_cut': {'tau_knn': 0.08}}),
    'paper_diffncuts-vits8_zoedepth_tau-knn-150': ('paper', {'local_cut': {'tau_knn': 0.15}}),
}


def test_a_config_that_says_the_paper_runs_its_parameters():
    assert set(PAPER_CONFIGS) == {name[:-3] for name in CONFIGS if name.startswith('paper')}
    for name, (preset, changes) in PAPER_CONFIGS.items():
        model = model_of(f'{name}.py')
        assert build_params(model['recipe']) == build_params({'preset': preset, **changes})
        recommended = re.sub(r'^paper(-v3)?_|_(no|tau)-.*', '', name)
        recommended = model_of(f'cuts3d_{recommended}.py')
        assert {**model, 'recipe': recommended['recipe']} == recommended
        first_line = (FOLDER / f'{name}.py').read_text().partition('\n')[0]
        assert "paper's" in first_line
    for name in (name for name in CONFIGS if not name.startswith('paper')):
        assert "the paper's" not in (FOLDER / name).read_text().partition('\n')[0]


@pytest.mark.slow
@pytest.mark.parametrize('name', CONFIGS)
def test_every_generator_is_built_without_weights(name, tmp_path, without_random_weights):
    model = model_of(name)
    if 'checkpoint' in model['features']:
        is_timm = model['features']['type'] == 'cuts3d_mm.TimmFeatures'
        pytest.importorskip('timm' if is_timm else 'mmpretrain.models')
        model['features']['checkpoint'] = None
    if model.get('depth') is not None:  # a network that is downloaded, or a folder of the user
        model['depth'] = {'type': 'cuts3d_mm.DepthFromFile', 'root': str(tmp_path)}
    assert LABELLERS.build(model).params == build_params(model['recipe'])


@pytest.mark.parametrize('name', [name for name in CONFIGS if 'dino' in name])
def test_configs_of_dino_take_the_recipe_as_it_is_recommended(name):
    model = model_of(name)
    params = build_params(model['recipe'])
    if name.startswith('cuts3d'):
        assert params == CutParams()
    assert params.ncut.tau_ncut == 0.15
    assert params.max_instances == (10 if name.startswith('cuts3d') else 3)
    assert model['input_hw'] in ((480, 480), (476, 476), (960, 960))


def test_configs_of_later_versions_of_dino_say_that_they_are_experimental():
    later = [name for name in CONFIGS if 'dinov' in name]
    for name in later:
        first, _, rest = (FOLDER / name).read_text().partition('\n')
        assert 'experimental' in first and '68.8 %' in rest
    assert len(later) == 4


@pytest.mark.parametrize('size', ['small', 'base'])
def test_configs_of_dinov3_name_weights_of_timm_and_their_licence(size):
    timm = pytest.importorskip('timm')
    from cuts3d_mm.labellers.features.vit import locate_weights

    name = f'cuts3d_dinov3-vit{size[0]}16_zoedepth.py'
    features = model_of(name)['features']
    weights = f'vit_{size}_patch16_dinov3.lvd1689m'
    assert features['model'] == weights and features['checkpoint'] == 'timm'
    assert locate_weights(weights) == f'hf://timm/{weights}/model.safetensors'
    assert timm.get_pretrained_cfg(weights).license.startswith('dinov3')
    assert 'DINOv3 License' in (FOLDER / name).read_text()
    assert model_of(name)['input_hw'] == (960, 960)  # 60 x 60 patches of 16 px


RESNET_WEIGHTS = {
    'cuts3d_dino-r50_zoedepth.py': 'dino_resnet50_pretrain.pth',
    'cuts3d_moco-v2-r50_zoedepth.py': 'moco_v2_800ep_pretrain.pth.tar',
}


@pytest.mark.slow
@pytest.mark.parametrize('name', RESNET_WEIGHTS)
def test_published_resnets_fit_the_network_under_the_names_that_the_config_states(name, tmp_path):
    pytest.importorskip('timm')
    features = model_of(name)['features']
    weights = ResNet(50, norm_eval=False).state_dict()  # MMDetection's has torchvision's names
    if 'moco' in name:
        heads = {'fc.0.weight': torch.zeros(2), 'fc.2.bias': torch.zeros(2)}
        named = {f'module.encoder_q.{k}': v for k, v in {**weights, **heads}.items()}
        weights = {'epoch': 800, 'arch': 'resnet50', 'state_dict': named}
    torch.save(weights, tmp_path / 'w.pth')
    assert features['checkpoint'].startswith('https://dl.fbaipublicfiles.com/')
    assert features['checkpoint'].endswith('/' + RESNET_WEIGHTS[name])
    extractor = FEATURES.build({**features, 'checkpoint': str(tmp_path / 'w.pth')})
    (found,) = extractor([np.zeros((64, 96, 3), np.uint8)])
    assert found.shape == (8, 12, 2048)


def test_the_commands_for_midas_small_write_what_its_config_reads(tmp_path, monkeypatch):
    """The script of the docstring runs, with a network that returns zeros and ones."""
    name = 'cuts3d_dino-vitb8_midas-small.py'
    lines = (FOLDER / name).read_text().splitlines()
    first, last = (
        lines.index('    import pathlib, sys'),
        lines.index('    python write_midas.py IMAGES DEPTH'),
    )
    (tmp_path / 'images/a').mkdir(parents=True)
    Image.new('RGB', (30, 20)).save(tmp_path / 'images/a/x.jpeg')
    parts = {
        'MiDaS_small': torch.nn.Identity(),
        'transforms': SimpleNamespace(small_transform=lambda pixels: torch.eye(4, 6)[None]),
    }
    monkeypatch.setattr(torch.hub, 'load', lambda repository, part: parts[part])
    monkeypatch.setattr(sys, 'argv', ['', str(tmp_path / 'images'), str(tmp_path / 'depth')])
    exec(textwrap.dedent('\n'.join(lines[first:last])), {})
    depth = DEPTH.build({**model_of(name)['depth'], 'root': str(tmp_path / 'depth')})
    (found,) = depth([NamedImage('a/x.jpeg', np.zeros((20, 30, 3), np.uint8))])
    assert found[0, 0] == pytest.approx(1 / 1.1) and found[0, 1] == pytest.approx(10)


@pytest.mark.slow
@pytest.mark.parametrize('name', VIT_CONFIGS)
def test_published_weights_fit_the_network(name, without_random_weights):
    timm = pytest.importorskip('timm')
    pytest.importorskip('mmpretrain.models')
    from cuts3d_mm.weights.converters import convert_backbone

    features = model_of(name)['features']
    extractor = FEATURES.build({**features, 'checkpoint': None})
    published = timm.create_model(VIT_CONFIGS[name], num_classes=0).state_dict()
    expected = extractor.network.state_dict()
    assert convert_backbone(published).weights.keys() == expected.keys()
    assert VIT_CONFIGS[name].split('.')[0] in features['checkpoint']
