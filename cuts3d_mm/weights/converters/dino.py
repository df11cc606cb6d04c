"""Convert self-supervised backbones from the names of their authors, timm or detectron2.

The weights get the names of mmpretrain's `VisionTransformer`, or of torchvision's ResNet, which
MMDetection's `ResNet` loads.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from cuts3d_mm.weights.converters.detectron2 import RESNET_PAIRS
from cuts3d_mm.weights.converters.names import NamePair, RenamedWeights, to_ours

_WRAPPERS = ('teacher', 'state_dict', 'model')
_PREFIX = re.compile(r'^((module|backbone|teacher|student)\.)+')
# MoCo's network that gradients train, in v2 and v3; next to it lies its momentum copy.
_MOCO = re.compile(r'^(module\.)?(encoder_q|base_encoder)\.')
VIT_PAIRS = (
    NamePair('cls_token', 'cls_token'),
    NamePair('pos_embed', 'pos_embed'),
    NamePair('patch_embed.proj.{leaf}', 'patch_embed.projection.{leaf}'),
    NamePair('blocks.{i}.norm{j}.{leaf}', 'layers.{i}.ln{j}.{leaf}'),
    NamePair('blocks.{i}.attn.qkv.{leaf}', 'layers.{i}.attn.qkv.{leaf}'),
    NamePair('blocks.{i}.attn.proj.{leaf}', 'layers.{i}.attn.proj.{leaf}'),
    NamePair('blocks.{i}.mlp.fc1.{leaf}', 'layers.{i}.ffn.layers.0.0.{leaf}'),
    NamePair('blocks.{i}.mlp.fc2.{leaf}', 'layers.{i}.ffn.layers.1.{leaf}'),
    NamePair('blocks.{i}.ls1.gamma', 'layers.{i}.attn.gamma1.weight'),
    NamePair('blocks.{i}.ls2.gamma', 'layers.{i}.ffn.gamma2.weight'),
    NamePair('norm.{leaf}', 'ln1.{leaf}'),
)
# Heads and tokens of the published files that a backbone has no use for.
_VIT_UNUSED = r'mask_token|register_tokens|(head|fc_norm)\..*'
_RESNET_UNUSED = r'(fc|head)\..*'


def _as_they_are(pairs: Sequence[NamePair]) -> tuple[NamePair, ...]:
    return tuple(NamePair(pair.ours, pair.ours) for pair in pairs)


# Per layout: a name that tells it, the pairs to ours, the names that have no use.
_LAYOUTS = (
    ('patch_embed.proj.weight', VIT_PAIRS, _VIT_UNUSED),
    ('patch_embed.projection.weight', _as_they_are(VIT_PAIRS), _VIT_UNUSED),
    ('stem.conv1.weight', RESNET_PAIRS, _RESNET_UNUSED),
    ('layer1.0.conv1.weight', _as_they_are(RESNET_PAIRS), _RESNET_UNUSED),
)


def unwrap_backbone(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """Open wrappers such as `{'teacher': {...}}` and strip prefixes such as `module.`.

    Of the two networks of MoCo it is the one that gradients trained.
    """
    for wrapper in _WRAPPERS:
        inner = content.get(wrapper)
        if isinstance(inner, Mapping):
            content = inner
    trained = {_MOCO.sub('', name): value for name, value in content.items() if _MOCO.match(name)}
    if trained:
        return trained
    return {_PREFIX.sub('', name): value for name, value in content.items()}


def convert_backbone(content: Mapping[str, Any]) -> RenamedWeights:
    """Bring a checkpoint of DINO, DINOv2, DiffNCuts or MoCo to the names that MM* packages load.

    Args:
        content: a state dict, or what wraps it.

    Raises:
        ValueError: it is neither a ViT nor a ResNet, or a weight has no place.
    """
    weights = unwrap_backbone(content)
    for telling_name, pairs, unused in _LAYOUTS:
        if telling_name in weights:
            return to_ours(weights, pairs, unused)
    raise ValueError(
        'checkpoint must be of a ViT or a ResNet, under the names of its authors, timm, '
        f'detectron2 or MM*; got {sorted(weights)[:5]}'
    )
