from __future__ import annotations

import io
from collections import OrderedDict

import pytest
import torch
from helpers.servers import Repository
from mmengine.logging.history_buffer import HistoryBuffer
from mmengine.runner import CheckpointLoader
from safetensors.torch import save
from torch import nn

import cuts3d_mm.weights.everywhere  # noqa: F401
from cuts3d_mm.weights import mmengine_loader
from cuts3d_mm.weights.mmengine_loader import load_from_cuts3d

STATE = {'weight': torch.arange(6.0).reshape(2, 3), 'bias': torch.ones(2)}


class Harmful:
    def __reduce__(self):
        return (print, ('this must never be run',))


def pickled(content):
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


@pytest.fixture
def published(hub):
    repository = hub.repositories['models', 'someone/linear'] = Repository(private=False)
    repository.commit(
        {
            'model.safetensors': save(STATE),
            'model.pth': pickled({'state_dict': STATE, 'meta': {'classes': ('object',)}}),
            'harm.pth': pickled({'state_dict': STATE, 'more': Harmful()}),
        }
    )
    return repository


@pytest.mark.parametrize('file', ['model.safetensors', 'model.pth'])
@pytest.mark.parametrize('revision', ['', '@main'])
def test_mmengine_loads_weights_from_the_hub(published, file, revision):
    from mmengine.runner import load_checkpoint

    module = nn.Linear(3, 2)
    load_checkpoint(module, f'hf://someone/linear{revision}/{file}', strict=True)
    assert all(torch.equal(module.state_dict()[name], value) for name, value in STATE.items())


def test_initialisation_of_a_backbone_loads_from_the_hub(published):
    from mmengine.model import BaseModule

    class Small(BaseModule):
        def __init__(self):
            weights = 'hf://someone/linear/model.safetensors'
            super().__init__(init_cfg={'type': 'Pretrained', 'checkpoint': weights})
            self.weight, self.bias = nn.Parameter(torch.zeros(2, 3)), nn.Parameter(torch.zeros(2))

    module = Small()
    module.init_weights()
    assert torch.equal(module.weight, STATE['weight'])


def test_a_file_that_could_run_code_is_refused_with_the_way_out(published, capsys):
    told = (
        r'names (__builtin__|builtins)\.print, .* convert it to \.safetensors where you trust it'
    )
    with pytest.raises(ValueError, match=told):
        CheckpointLoader.load_checkpoint('hf://someone/linear/harm.pth')
    assert 'never be run' not in capsys.readouterr().out


def test_no_loader_of_mmengine_is_left():
    assert set(CheckpointLoader._schemes.values()) == {load_from_cuts3d}


@pytest.mark.parametrize('location', ['http://x.org/w.pth', 's3://x/w.pth', 'a:s3://x/w.pth'])
def test_other_protocols_are_refused(location):
    with pytest.raises(ValueError, match='must be a file, https:// or hf:// location'):
        CheckpointLoader.load_checkpoint(location)


@pytest.mark.parametrize(
    ('name', 'address'),
    [
        ('torchvision://resnet50', 'https://download.pytorch.org/models/resnet50-'),
        ('open-mmlab://detectron2/resnet50_caffe', 'https://'),
        ('open-mmlab://msra/hrnetv2_w18', 'https://'),
        ('mmcls://vgg11', 'https://'),
    ],
)
def test_names_of_model_zoos_are_read_by_us(monkeypatch, name, address, tmp_path):
    asked = []
    torch.save({'state_dict': {'backbone.a': torch.ones(1)}}, tmp_path / 'w.pth')
    real = mmengine_loader.read_state
    monkeypatch.setattr(
        mmengine_loader,
        'read_state',
        lambda location: asked.append(location) or real(str(tmp_path / 'w.pth')),
    )
    found = CheckpointLoader.load_checkpoint(name)['state_dict']
    assert asked[0].startswith(address)
    assert list(found) == ['a' if name.startswith('mmcls') else 'backbone.a']


@pytest.mark.parametrize('zoo', ['torchvision', 'open-mmlab', 'mmcls', 'modelzoo'])
def test_unknown_models_of_zoos_are_named(zoo):
    with pytest.raises(ValueError, match=f'{zoo}://nothing must name a model of MMEngine'):
        CheckpointLoader.load_checkpoint(f'{zoo}://nothing')


def test_configs_and_paths_that_mmengine_would_act_on_are_dropped(tmp_path):
    history = HistoryBuffer([1.0, 2.0], [1, 1])
    info = {
        'cfg': 'import os',
        'epoch': 3,
        'keep_ckpt_ids': ['../x'],
        'best_ckpt': '/home',
        'best_ckpt_a': str(tmp_path / 'best_a.pth'),
        'best_score': 0.5,
    }
    hub = {'log_scalars': OrderedDict(loss=history), 'runtime_info': info, 'resumed_keys': {}}
    meta = {'iter': 3, 'config': 'import os', 'cfg': 'import os'}
    torch.save({'state_dict': STATE, 'meta': meta, 'message_hub': hub}, tmp_path / 'w.pth')
    found = CheckpointLoader.load_checkpoint(str(tmp_path / 'w.pth'))
    assert found['meta'] == {'iter': 3}
    kept = found['message_hub']['runtime_info']
    assert kept == {'epoch': 3, 'best_ckpt_a': info['best_ckpt_a'], 'best_score': 0.5}
    assert found['message_hub']['log_scalars']['loss'].mean() == 1.5
