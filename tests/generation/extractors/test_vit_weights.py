from __future__ import annotations

import pytest
import torch

from cuts3d_mm.generation.extractors.vit_weights import map_vit_keys

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


def test_dino_and_timm_names_are_mapped():
    assert map_vit_keys(tensors(DINO), tensors(OURS)).keys() == OURS.keys()


def test_mmpretrain_names_stay():
    assert map_vit_keys(tensors(OURS), tensors(OURS)).keys() == OURS.keys()


@pytest.mark.parametrize('prefix', ['module.', 'backbone.', 'module.backbone.'])
def test_training_wrappers_are_opened(prefix):
    wrapped = {f'{prefix}{name}': tensor for name, tensor in tensors(DINO).items()}
    if prefix.count('.') == 2:  # as DINO's full checkpoints nest them
        wrapped = {'teacher': {n.removeprefix('module.'): t for n, t in wrapped.items()}}
    assert map_vit_keys(wrapped, tensors(OURS)).keys() == OURS.keys()


def test_layer_scale_of_dinov2_is_mapped():
    dinov2 = tensors({**DINO, 'blocks.0.ls1.gamma': (8,), 'blocks.0.ls2.gamma': (8,)})
    dinov2['mask_token'] = torch.zeros(1, 8)
    gammas = {'layers.0.attn.gamma1.weight': (8,), 'layers.0.ffn.gamma2.weight': (8,)}
    expected = tensors({**OURS, **gammas})
    assert map_vit_keys(dinov2, expected).keys() == expected.keys()


def test_unknown_missing_and_misshapen_weights_are_named():
    weights = tensors(DINO)
    weights['stray'] = weights.pop('cls_token')
    weights['norm.weight'] = torch.zeros(9)
    with pytest.raises(ValueError) as error:
        map_vit_keys(weights, tensors(OURS))
    message = str(error.value)
    assert 'unknown: stray' in message and 'missing: cls_token' in message
    assert 'misshapen: ln1.weight (9,) for (8,)' in message
