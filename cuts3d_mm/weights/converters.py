"""Convert weights of Detectron2 and DINO."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from torch import Tensor

from .checkpoints import some_of

_FIELD = re.compile(r'\{(\w+?)(?:\+(\d+))?\}')
Architecture = Literal['cascade', 'standard']
# Constants of the configuration that older checkpoints hold next to the weights.
_CONSTANTS = r'pixel_(mean|std)|proposal_generator\.anchor_generator\.cell_anchors\.\d+'
_WRAPPERS = ('teacher', 'state_dict', 'model')
_PREFIX = re.compile(r'^((module|backbone|teacher|student)\.)+')
# MoCo's network that gradients train, in v2 and v3; next to it lies its momentum copy.
_MOCO = re.compile(r'^(module\.)?(encoder_q|base_encoder)\.')
# Heads and tokens of the published files that a backbone has no use for.
_VIT_UNUSED = r'mask_token|register_tokens|(head|fc_norm)\..*'
_RESNET_UNUSED = r'(fc|head)\..*'


@dataclass(frozen=True)
class NamePair:
    """One kind of weight in two layouts, as templates that have the same fields.

    `{n}` stands for a number and `{n+1}` for the number that is larger by one; `{leaf}` for the
    last part of a name, such as `weight` or `running_mean`.
    """

    theirs: str
    ours: str


@dataclass(frozen=True)
class RenamedWeights:
    """A state dict in the other layout."""

    weights: dict[str, Tensor]
    left_out: tuple[str, ...]  # names that are known and have no counterpart


def to_ours(
    weights: Mapping[str, Tensor], pairs: Sequence[NamePair], unused: str = r'(?!)'
) -> RenamedWeights:
    """Rename weights of the other layout to ours; see `_rename_all`."""
    return _rename_all(weights, [(pair.theirs, pair.ours) for pair in pairs], unused)


def to_theirs(weights: Mapping[str, Tensor], pairs: Sequence[NamePair]) -> RenamedWeights:
    """Rename weights of ours to the other layout; see `_rename_all`."""
    return _rename_all(weights, [(pair.ours, pair.theirs) for pair in pairs], r'(?!)')


def _rename_all(
    weights: Mapping[str, Tensor], pairs: Sequence[tuple[str, str]], unused: str
) -> RenamedWeights:
    """Rename every weight by the first pair that fits.

    Args:
        weights: name -> tensor.
        pairs: templates, from and to.
        unused: pattern of the names that are left out.

    Raises:
        ValueError: a name fits no template, or two names become one.
    """
    renamed: dict[str, Tensor] = {}
    left_out, unknown, doubled = [], [], []
    for name, tensor in weights.items():
        new_name = next(filter(None, (_rename(name, *pair) for pair in pairs)), None)
        if re.fullmatch(unused, name):
            left_out.append(name)
        elif new_name is None:
            unknown.append(name)
        elif new_name in renamed:
            doubled.append(name)
        else:
            renamed[new_name] = tensor
    if unknown or doubled:
        raise ValueError(
            'every weight must have one place in the other layout; without one: '
            f'{some_of(unknown)}; with that of another weight: {some_of(doubled)}'
        )
    return RenamedWeights(renamed, tuple(left_out))


def _rename(name: str, template: str, other: str) -> str | None:
    found = _pattern(template).fullmatch(name)
    if found is None:
        return None
    shifts = {field: int(shift or 0) for field, shift in _FIELD.findall(template)}

    def fill(field: re.Match[str]) -> str:
        value = found[field[1]]
        return value if field[1] == 'leaf' else str(int(value) - shifts[field[1]] + _shift(field))

    return _FIELD.sub(fill, other)


def _shift(field: re.Match[str]) -> int:
    return int(field[2] or 0)


@cache
def _pattern(template: str) -> re.Pattern[str]:
    parts, end = [], 0
    for field in _FIELD.finditer(template):
        kind = r'[a-z_]+' if field[1] == 'leaf' else r'\d+'
        parts += [re.escape(template[end : field.start()]), f'(?P<{field[1]}>{kind})']
        end = field.end()
    return re.compile(''.join([*parts, re.escape(template[end:])]))


# ResNet without a prefix: also the layout of backbone checkpoints.
RESNET_PAIRS = (
    NamePair('stem.conv1.weight', 'conv1.weight'),
    NamePair('stem.conv1.norm.{leaf}', 'bn1.{leaf}'),
    NamePair('res{s+1}.{i}.conv{j}.weight', 'layer{s}.{i}.conv{j}.weight'),
    NamePair('res{s+1}.{i}.conv{j}.norm.{leaf}', 'layer{s}.{i}.bn{j}.{leaf}'),
    NamePair('res{s+1}.{i}.shortcut.weight', 'layer{s}.{i}.downsample.0.weight'),
    NamePair('res{s+1}.{i}.shortcut.norm.{leaf}', 'layer{s}.{i}.downsample.1.{leaf}'),
)
_SHARED_PAIRS = (
    *(
        NamePair(f'backbone.bottom_up.{pair.theirs}', f'backbone.{pair.ours}')
        for pair in RESNET_PAIRS
    ),
    NamePair('backbone.fpn_lateral{l+2}.norm.{leaf}', 'neck.lateral_convs.{l}.bn.{leaf}'),
    NamePair('backbone.fpn_lateral{l+2}.{leaf}', 'neck.lateral_convs.{l}.conv.{leaf}'),
    NamePair('backbone.fpn_output{l+2}.norm.{leaf}', 'neck.fpn_convs.{l}.bn.{leaf}'),
    NamePair('backbone.fpn_output{l+2}.{leaf}', 'neck.fpn_convs.{l}.conv.{leaf}'),
    NamePair('proposal_generator.rpn_head.conv.{leaf}', 'rpn_head.rpn_conv.{leaf}'),
    NamePair('proposal_generator.rpn_head.objectness_logits.{leaf}', 'rpn_head.rpn_cls.{leaf}'),
    NamePair('proposal_generator.rpn_head.anchor_deltas.{leaf}', 'rpn_head.rpn_reg.{leaf}'),
)


def _head_pairs(box_stage: str, mask_stage: str) -> tuple[NamePair, ...]:
    """Pairs of the RoI heads; a stage is `.{k}` or `.0` in front of what follows, or nothing."""
    box, mask = f'roi_head.bbox_head{box_stage}', f'roi_head.mask_head{mask_stage}'
    predictor = f'roi_heads.box_predictor{box_stage}'
    return (
        NamePair(
            f'roi_heads.box_head{box_stage}.fc{{i+1}}.{{leaf}}', f'{box}.shared_fcs.{{i}}.{{leaf}}'
        ),
        NamePair(f'{predictor}.cls_score.{{leaf}}', f'{box}.fc_cls.{{leaf}}'),
        NamePair(f'{predictor}.bbox_pred.{{leaf}}', f'{box}.fc_reg.{{leaf}}'),
        NamePair('roi_heads.mask_head.mask_fcn{i+1}.{leaf}', f'{mask}.convs.{{i}}.conv.{{leaf}}'),
        NamePair('roi_heads.mask_head.deconv.{leaf}', f'{mask}.upsample.{{leaf}}'),
        NamePair('roi_heads.mask_head.predictor.{leaf}', f'{mask}.conv_logits.{{leaf}}'),
    )


_PAIRS = {
    'cascade': _SHARED_PAIRS + _head_pairs('.{k}', '.0'),
    'standard': _SHARED_PAIRS + _head_pairs('', ''),
}


def architecture_of(weights: Mapping[str, Tensor]) -> Architecture:
    """Tell a Cascade Mask R-CNN from a Mask R-CNN, by the names of either layout.

    Raises:
        ValueError: it is neither.
    """
    for stage, architecture in (('.0', 'cascade'), ('', 'standard')):
        heads = (
            f'roi_heads.box_head{stage}.fc1.weight',
            f'roi_head.bbox_head{stage}.fc_cls.weight',
        )
        if any(head in weights for head in heads):
            return architecture  # type: ignore[return-value]
    raise ValueError(
        'checkpoint must be of a Mask R-CNN or Cascade Mask R-CNN of detectron2 or MMDetection, '
        f'its names begin with {sorted({name.split(".")[0] for name in weights})[:8]}'
    )


def from_detectron2(weights: Mapping[str, Tensor]) -> RenamedWeights:
    """Bring the weights of a detectron2 model into our layout, values untouched.

    Raises:
        ValueError: a weight without a place, or no R-CNN.
    """
    return to_ours(weights, _PAIRS[architecture_of(weights)], _CONSTANTS)


def to_detectron2(weights: Mapping[str, Tensor]) -> RenamedWeights:
    """Bring our weights into detectron2's layout, values untouched.

    Raises:
        ValueError: a weight without a place, or no R-CNN.
    """
    return to_theirs(weights, _PAIRS[architecture_of(weights)])


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
