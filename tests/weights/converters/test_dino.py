from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from mmdet.models.backbones import ResNet

from cuts3d_mm.weights import read_state
from cuts3d_mm.weights.checkpoints import check_weights_fit
from cuts3d_mm.weights.converters import convert_backbone

DINO = {
    'cls_token': (1, 1, 8),
    'pos_embed': (1, 5, 8),
    'patch_embed.proj.weight': (8, 3, 4, 4),
    'blocks.0.norm1.weight': (8,),
    'blocks.0.attn.qkv.weight': (24, 8),
    'blocks.0.attn.proj.bias': (8,),
    'blocks.0.norm2.bias': (8,),
    'blocks.0.mlp.fc1.weight': (16, 8),
    'blocks.0.mlp.fc2.weight': (8, 16),
    'norm.weight': (8,),
}
OURS = {
    'cls_token': (1, 1, 8),
    'pos_embed': (1, 5, 8),
    'patch_embed.projection.weight': (8, 3, 4, 4),
    'layers.0.ln1.weight': (8,),
    'layers.0.attn.qkv.weight': (24, 8),
    'layers.0.attn.proj.bias': (8,),
    'layers.0.ln2.bias': (8,),
    'layers.0.ffn.layers.0.0.weight': (16, 8),
    'layers.0.ffn.layers.1.weight': (8, 16),
    'ln1.weight': (8,),
}


def tensors(shapes):
    return {name: torch.zeros(shape) for name, shape in shapes.items()}


def names_of(content):
    return convert_backbone(content).weights.keys()


def test_dino_and_timm_names_are_mapped():
    assert names_of(tensors(DINO)) == OURS.keys()


def test_mmpretrain_names_stay():
    assert names_of(tensors(OURS)) == OURS.keys()


@pytest.mark.parametrize('prefix', ['module.', 'backbone.', 'module.backbone.'])
def test_training_wrappers_are_opened(prefix):
    wrapped = {f'{prefix}{name}': tensor for name, tensor in tensors(DINO).items()}
    assert names_of(wrapped) == names_of({'teacher': wrapped}) == OURS.keys()


@pytest.mark.parametrize('trained', ['module.encoder_q.', 'module.base_encoder.', 'encoder_q.'])
def test_of_a_training_of_moco_the_network_that_gradients_trained_is_taken(trained):
    weights = {f'{trained}{name}': value for name, value in tensors(DINO).items()}
    copy = {f'module.encoder_k.{name}': value + 1 for name, value in tensors(DINO).items()}
    state = {**copy, **weights, 'module.queue': torch.zeros(4, 8)}
    found = convert_backbone({'arch': 'vit', 'state_dict': state}).weights
    assert found.keys() == OURS.keys() and not any(value.any() for value in found.values())


def test_layer_scale_of_dinov2_is_mapped_and_its_mask_token_left_out():
    dinov2 = tensors({**DINO, 'blocks.0.ls1.gamma': (8,), 'blocks.0.ls2.gamma': (8,)})
    dinov2['mask_token'] = torch.zeros(1, 8)
    found = convert_backbone(dinov2)
    gammas = {'layers.0.attn.gamma1.weight', 'layers.0.ffn.gamma2.weight'}
    assert found.weights.keys() == OURS.keys() | gammas and found.left_out == ('mask_token',)


def test_unknown_missing_and_misshapen_weights_are_named():
    weights = tensors(DINO)
    with pytest.raises(ValueError, match='without one: blocks.0.stray'):
        convert_backbone({**weights, 'blocks.0.stray': torch.zeros(1)})
    del weights['cls_token']
    weights['norm.weight'] = torch.zeros(9)
    with pytest.raises(ValueError) as error:
        check_weights_fit(convert_backbone(weights).weights, tensors(OURS))
    assert 'missing: cls_token' in str(error.value)
    assert 'of another shape: ln1.weight (9,), needed (8,)' in str(error.value)


def detectron2_names(torchvision):
    """The names of a ResNet in detectron2, restated one by one."""
    renamed = {}
    for name, value in torchvision.items():
        stage, *rest = name.split('.')
        if stage.startswith('layer'):
            block, part, *leaf = rest
            if part == 'downsample':
                part, leaf = 'shortcut', leaf[1:] if leaf[0] == '0' else ['norm', *leaf[1:]]
            elif part.startswith('bn'):
                part, leaf = f'conv{part[2:]}', ['norm', *leaf]
            stage = f'res{int(stage[5:]) + 1}'
            renamed['.'.join([stage, block, part, *leaf])] = value
        else:
            part = 'conv1' if stage == 'conv1' else 'conv1.norm'
            renamed['.'.join(['stem', part, *rest])] = value
    return renamed


@pytest.mark.slow
@pytest.mark.parametrize('layout', ['torchvision', 'timm', 'dino', 'detectron2'])
def test_resnet_of_any_layout_gives_the_same_network(tmp_path, layout):
    torch.manual_seed(0)
    network = ResNet(50)
    weights = network.state_dict()
    path = tmp_path / ('w.pkl' if layout == 'detectron2' else 'w.pth')
    if layout == 'detectron2':
        arrays = {name: value.numpy() for name, value in detectron2_names(weights).items()}
        path.write_bytes(pickle.dumps({'model': arrays, '__author__': 'someone'}, protocol=2))
    else:
        head = {'timm': {'fc.weight': torch.zeros(2)}}.get(layout, {})
        prefix = 'module.backbone.' if layout == 'dino' else ''
        torch.save({f'{prefix}{n}': v for n, v in {**weights, **head}.items()}, path)
    found = convert_backbone(read_state(str(path)).content).weights
    check_weights_fit(found, weights)
    assert all(torch.equal(found[name], value) for name, value in weights.items())


class Harmful:
    def __reduce__(self):
        return (print, ('this must never be run',))


def test_pickles_of_more_than_arrays_are_refused(tmp_path, capsys):
    (tmp_path / 'w.pkl').write_bytes(pickle.dumps({'model': {'a': np.ones(2), 'b': Harmful()}}))
    with pytest.raises(ValueError, match=r'names builtins\.print'):
        read_state(str(tmp_path / 'w.pkl'))
    assert 'never be run' not in capsys.readouterr().out


def test_other_networks_are_refused():
    with pytest.raises(ValueError, match='must be of a ViT or a ResNet'):
        convert_backbone({'features.0.weight': torch.zeros(1)})
