"""Convert the weights of detectron2, DINO, timm and MoCo to the names of MM* packages."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from torch import Tensor

from .checkpoints import some_of

# Names of a weight in two layouts, theirs and ours, as templates with the same fields. `{n}` is a
# number, `{n+1}` the next number, `{leaf}` the last part of a name, such as `running_mean`.
Pair = tuple[str, str]
_FIELD = re.compile(r'\{(\w+?)(?:\+(\d+))?\}')
Architecture = Literal['cascade', 'standard']


@dataclass(frozen=True)
class RenamedWeights:
    """A state dict in the other layout."""

    weights: dict[str, Tensor]
    left_out: tuple[str, ...]  # known names without a counterpart


def _rename_all(
    weights: Mapping[str, Tensor], pairs: Sequence[Pair], unused: str = r'(?!)'
) -> RenamedWeights:
    """Rename every weight by the first pair that fits; leave names of the pattern `unused` out.

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
            'every weight must have its own place in the other layout; without a place: '
            f'{some_of(unknown)}; with the place of another weight: {some_of(doubled)}'
        )
    return RenamedWeights(renamed, tuple(left_out))


def _rename(name: str, template: str, other: str) -> str | None:
    found = _pattern(template).fullmatch(name)
    if found is None:
        return None
    shifts = {field: int(shift or 0) for field, shift in _FIELD.findall(template)}

    def fill(field: re.Match[str]) -> str:
        value = found[field[1]]
        if field[1] == 'leaf':
            return value
        return str(int(value) - shifts[field[1]] + int(field[2] or 0))

    return _FIELD.sub(fill, other)


@cache
def _pattern(template: str) -> re.Pattern[str]:
    def group(field: re.Match[str]) -> str:
        kind = '[a-z_]+' if field[1] == 'leaf' else '[0-9]+'
        return f'(?P<{field[1]}>{kind})'

    return re.compile(_FIELD.sub(group, template.replace('.', '[.]')))


# ResNet without a prefix, which is also the layout of backbone checkpoints.
_RESNET_PAIRS = (
    ('stem.conv1.weight', 'conv1.weight'),
    ('stem.conv1.norm.{leaf}', 'bn1.{leaf}'),
    ('res{s+1}.{i}.conv{j}.weight', 'layer{s}.{i}.conv{j}.weight'),
    ('res{s+1}.{i}.conv{j}.norm.{leaf}', 'layer{s}.{i}.bn{j}.{leaf}'),
    ('res{s+1}.{i}.shortcut.weight', 'layer{s}.{i}.downsample.0.weight'),
    ('res{s+1}.{i}.shortcut.norm.{leaf}', 'layer{s}.{i}.downsample.1.{leaf}'),
)
_SHARED_PAIRS = (
    *((f'backbone.bottom_up.{theirs}', f'backbone.{ours}') for theirs, ours in _RESNET_PAIRS),
    ('backbone.fpn_lateral{l+2}.norm.{leaf}', 'neck.lateral_convs.{l}.bn.{leaf}'),
    ('backbone.fpn_lateral{l+2}.{leaf}', 'neck.lateral_convs.{l}.conv.{leaf}'),
    ('backbone.fpn_output{l+2}.norm.{leaf}', 'neck.fpn_convs.{l}.bn.{leaf}'),
    ('backbone.fpn_output{l+2}.{leaf}', 'neck.fpn_convs.{l}.conv.{leaf}'),
    ('proposal_generator.rpn_head.conv.{leaf}', 'rpn_head.rpn_conv.{leaf}'),
    ('proposal_generator.rpn_head.objectness_logits.{leaf}', 'rpn_head.rpn_cls.{leaf}'),
    ('proposal_generator.rpn_head.anchor_deltas.{leaf}', 'rpn_head.rpn_reg.{leaf}'),
)


def _head_pairs(box_stage: str, mask_stage: str) -> tuple[Pair, ...]:
    """Make the pairs of the RoI heads; a stage is `.{k}`, `.0` or an empty text."""
    box, mask = f'roi_head.bbox_head{box_stage}', f'roi_head.mask_head{mask_stage}'
    predictor = f'roi_heads.box_predictor{box_stage}'
    return (
        (f'roi_heads.box_head{box_stage}.fc{{i+1}}.{{leaf}}', f'{box}.shared_fcs.{{i}}.{{leaf}}'),
        (f'{predictor}.cls_score.{{leaf}}', f'{box}.fc_cls.{{leaf}}'),
        (f'{predictor}.bbox_pred.{{leaf}}', f'{box}.fc_reg.{{leaf}}'),
        ('roi_heads.mask_head.mask_fcn{i+1}.{leaf}', f'{mask}.convs.{{i}}.conv.{{leaf}}'),
        ('roi_heads.mask_head.deconv.{leaf}', f'{mask}.upsample.{{leaf}}'),
        ('roi_heads.mask_head.predictor.{leaf}', f'{mask}.conv_logits.{{leaf}}'),
    )


_PAIRS = {
    'cascade': _SHARED_PAIRS + _head_pairs('.{k}', '.0'),
    'standard': _SHARED_PAIRS + _head_pairs('', ''),
}
# Constants of the configuration that older checkpoints hold next to the weights.
_CONSTANTS = r'pixel_(mean|std)|proposal_generator\.anchor_generator\.cell_anchors\.\d+'


def architecture_of(weights: Mapping[str, Tensor]) -> Architecture:
    """Tell a Cascade Mask R-CNN from a Mask R-CNN, by the names in either layout.

    Raises:
        ValueError: the network is neither.
    """
    for stage, architecture in (('.0', 'cascade'), ('', 'standard')):
        theirs = f'roi_heads.box_head{stage}.fc1.weight'
        if theirs in weights or f'roi_head.bbox_head{stage}.fc_cls.weight' in weights:
            return architecture  # type: ignore[return-value]
    raise ValueError(
        'checkpoint must hold a Mask R-CNN or Cascade Mask R-CNN of detectron2 or MMDetection, '
        f'its names begin with {sorted({name.split(".")[0] for name in weights})[:8]}'
    )


def from_detectron2(weights: Mapping[str, Tensor]) -> RenamedWeights:
    """Bring the weights of a detectron2 model into our layout; the values do not change.

    Raises:
        ValueError: a weight has no place, or the network is no R-CNN.
    """
    return _rename_all(weights, _PAIRS[architecture_of(weights)], _CONSTANTS)


def to_detectron2(weights: Mapping[str, Tensor]) -> RenamedWeights:
    """Bring our weights into detectron2's layout; the values do not change.

    Raises:
        ValueError: a weight has no place, or the network is no R-CNN.
    """
    pairs = _PAIRS[architecture_of(weights)]
    return _rename_all(weights, [(ours, theirs) for theirs, ours in pairs])


_VIT_PAIRS = (
    ('cls_token', 'cls_token'),
    ('pos_embed', 'pos_embed'),
    ('patch_embed.proj.{leaf}', 'patch_embed.projection.{leaf}'),
    ('blocks.{i}.norm{j}.{leaf}', 'layers.{i}.ln{j}.{leaf}'),
    ('blocks.{i}.attn.qkv.{leaf}', 'layers.{i}.attn.qkv.{leaf}'),
    ('blocks.{i}.attn.proj.{leaf}', 'layers.{i}.attn.proj.{leaf}'),
    ('blocks.{i}.mlp.fc1.{leaf}', 'layers.{i}.ffn.layers.0.0.{leaf}'),
    ('blocks.{i}.mlp.fc2.{leaf}', 'layers.{i}.ffn.layers.1.{leaf}'),
    ('blocks.{i}.ls1.gamma', 'layers.{i}.attn.gamma1.weight'),
    ('blocks.{i}.ls2.gamma', 'layers.{i}.ffn.gamma2.weight'),
    ('norm.{leaf}', 'ln1.{leaf}'),
)


# Heads and tokens in published files that a backbone does not use.
_VIT_UNUSED = r'mask_token|register_tokens|(head|fc_norm)\..*'
_RESNET_UNUSED = r'(fc|head)\..*'
# Per layout: a name that shows it, the pairs, whether it is theirs, and the unused names.
_LAYOUTS = (
    ('patch_embed.proj.weight', _VIT_PAIRS, True, _VIT_UNUSED),
    ('patch_embed.projection.weight', _VIT_PAIRS, False, _VIT_UNUSED),
    ('stem.conv1.weight', _RESNET_PAIRS, True, _RESNET_UNUSED),
    ('layer1.0.conv1.weight', _RESNET_PAIRS, False, _RESNET_UNUSED),
)
_PREFIX = re.compile(r'^((module|backbone|teacher|student)\.)+')
# The network of MoCo v2 and v3 that gradients train; the file also holds its momentum copy.
_MOCO = re.compile(r'^(module\.)?(encoder_q|base_encoder)\.')


def unwrap_backbone(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """Open wrappers such as `{'teacher': {...}}` and strip prefixes such as `module.`.

    MoCo's files hold two networks; the one that gradients trained is taken.
    """
    for wrapper in ('teacher', 'state_dict', 'model'):
        inner = content.get(wrapper)
        if isinstance(inner, Mapping):
            content = inner
    trained = {_MOCO.sub('', name): value for name, value in content.items() if _MOCO.match(name)}
    return trained or {_PREFIX.sub('', name): value for name, value in content.items()}


def convert_backbone(content: Mapping[str, Any]) -> RenamedWeights:
    """Bring a checkpoint of DINO, DINOv2, DiffNCuts or MoCo to the names that MM* packages load.

    Args:
        content: a state dict, perhaps in a wrapper.

    Raises:
        ValueError: the network is neither a ViT nor a ResNet, or a weight has no place.
    """
    weights = unwrap_backbone(content)
    for telling_name, pairs, is_theirs, unused in _LAYOUTS:
        if telling_name in weights:
            names = [(theirs if is_theirs else ours, ours) for theirs, ours in pairs]
            return _rename_all(weights, names, unused)
    raise ValueError(
        'checkpoint must hold a ViT or a ResNet, under the names of its authors, timm, '
        f'detectron2 or MM*; got {sorted(weights)[:5]}'
    )
