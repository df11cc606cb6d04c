from __future__ import annotations

import io

import pytest
import torch
from loopback_hub import Repository
from mmengine.runner import CheckpointLoader
from safetensors.torch import save
from torch import nn

import cuts3d_mm.hub  # noqa: F401

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
    with pytest.raises(ValueError, match=r'convert it to \.safetensors where you trust it'):
        CheckpointLoader.load_checkpoint('hf://someone/linear/harm.pth')
    assert 'never be run' not in capsys.readouterr().out
