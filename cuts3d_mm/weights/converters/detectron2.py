"""Convert detectron2's R-CNNs with an FPN, those of CutLER, CuVLER and CutS3D, both ways.

Both sides share what weights depend on: class order (objects first, background last), order of
anchors, scales of deltas, flattening of pooled features, aligned RoIAlign. So names change and
no value does; tests hold both to the same boxes, scores and masks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from torch import Tensor

from cuts3d_mm.weights.converters.names import NamePair, RenamedWeights, to_ours, to_theirs

Architecture = Literal['cascade', 'standard']

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
# Constants of the configuration that older checkpoints hold next to the weights.
_CONSTANTS = r'pixel_(mean|std)|proposal_generator\.anchor_generator\.cell_anchors\.\d+'


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
