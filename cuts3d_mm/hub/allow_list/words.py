"""Words that the arguments of allowed classes take; any other text is refused."""

from __future__ import annotations

_FLAGS = ' '.join(f'{number:04b}' for number in range(16))  # of GeneralizedAttention
_RESIZE = 'area bicubic bilinear lanczos nearest'

_WORDS = {
    'add_extra_convs': 'on_input on_lateral on_output',
    'aggregation': 'concat sum',
    'anchor_type': 'anchor_based anchor_free',
    'approximate': 'none tanh',
    'arch': 'P5 P6 b0 b1 b2 b3 b4 b5 b6 b7 b8 es em el l2 '
    'regnetx_400mf regnetx_800mf regnetx_1.6gf regnetx_3.2gf regnetx_4.0gf regnetx_6.4gf '
    'regnetx_8.0gf regnetx_12gf '
    'atto femto pico nano tiny small base large xlarge huge giant xxsmall xsmall '
    's m l xl s0 s1 s2 s3 s4 s12 s24 s36 m36 m48 w18 w30 w32 w40 w44 w48 w64 '
    'deit-tiny deit-small deit-base 121 161 169 201',
    'attention_type': _FLAGS,
    'bbox_norm_type': 'reg_denom stride',
    'bias': 'auto qv_bias',
    'block': 'BASIC BOTTLENECK',
    'box_format': 'xywh xyxy',
    'conv_bias': 'auto',
    'confidence_source': 'map none score',
    'covariance_type': 'diag full spherical tied',
    'dtype': 'fp16',
    'fusion_mode': 'concat max_mean',
    'fusion_types': 'channel_add channel_mul',
    'interpolate_mode': _RESIZE,
    'interpolation': _RESIZE,
    'iou_mode': 'giou iof iou',
    'kernel': 'gaussian linear',
    'loss_key': 'loss_cls',
    'method': 'gaussian greedy linear naive',
    'mode': 'bicubic bilinear concatenation dot_product embedded_gaussian gaussian giou iof iou '
    'linear log nearest original square',
    'order': 'act conv norm',
    'out_type': 'avg_featmap cls_token featmap raw',
    'padding': 'corner same valid',
    'padding_mode': 'circular reflect replicate zeros',
    'paths': 'bu td',
    'pool_mode': 'avg max',
    'pooling_type': 'AVG MAX att avg',
    'position': 'after_conv1 after_conv2 after_conv3',
    'predict_box_type': 'hbox',
    'predict_on': 'student teacher',
    'query_scale_type': 'cond_elewise cond_scalar fix_elewise',
    'reduction': 'mean none sum',
    'refine_type': 'conv non_local',
    'semantic_fusion': 'bbox mask',
    'stats_mode': 'N default',
    'style': 'caffe pytorch',
    'test_pad_mode': 'logical_or size_divisor',
    'transform_method': 'minmax moment partial_minmax',
}
WORDS = {argument: frozenset(words.split()) for argument, words in _WORDS.items()}
