"""Layers, losses and helpers of detectors that releases may name."""

from __future__ import annotations

LOSSES = frozenset(
    """
    AssociativeEmbeddingLoss BalancedL1Loss BoundedIoULoss CIoULoss CrossEntropyCustomLoss
    CrossEntropyLoss DIoULoss DiceLoss DistributionFocalLoss EIoULoss EQLV2Loss FocalCustomLoss
    FocalLoss GHMC GHMR GIoULoss GaussianFocalLoss IoULoss KnowledgeDistillationKLDivLoss
    L1Loss L2Loss MSELoss MarginL2Loss MultiPosCrossEntropyLoss QualityFocalLoss SIoULoss
    SeesawLoss SmoothL1Loss TripletLoss VarifocalLoss
    """.split()
)
LAYERS = frozenset(  # of MMDetection, MMCV and torch, all in the registry MODELS
    """
    BN BN1d BN2d BN3d BaseTransformerLayer Clamp Clip ContextBlock Conv Conv1d Conv2d
    Conv2dAdaptivePadding Conv3d ConvAWS ConvModule ConvTranspose2d ConvTranspose3d ConvWS
    CrissCrossAttention DCN DCNv2 DropBlock DropPath Dropout DynamicConv ELU FFN FrozenBN GELU GN
    GeneralizedAttention HSigmoid HSwish IN IN1d IN2d IN3d LN LeakyReLU LearnedPositionalEncoding
    Linear MMSyncBN MSDeformAttnPixelDecoder MultiScaleDeformableAttention MultiheadAttention
    NonLocal2d NormedConv2d NormedLinear PReLU PixelDecoder RReLU ReLU ReLU6 SAC SiLU Sigmoid
    SinePositionalEncoding SinePositionalEncoding3D Swish SyncBN Tanh
    TransformerEncoderPixelDecoder TransformerLayerSequence bilinear carafe deconv deconv3d
    nearest pixel_shuffle reflect replicate zero
    """.split()
)
TASK_UTILS = frozenset(
    """
    ATSSAssigner AnchorGenerator ApproxMaxIoUAssigner BBoxL1Cost BboxOverlaps2D
    BboxOverlaps2D_GLIP BinaryFocalLossCost BucketingBBoxCoder CenterRegionAssigner
    ClassificationCost CombinedSampler CrossEntropyLossCost DeltaXYWHBBoxCoder
    DeltaXYWHBBoxCoderForGLIP DiceCost DistancePointBBoxCoder DynamicSoftLabelAssigner
    FocalLossCost GridAssigner HungarianAssigner InstanceBalancedPosSampler
    IoUBalancedNegSampler IoUCost LegacyAnchorGenerator LegacyDeltaXYWHBBoxCoder
    LegacySSDAnchorGenerator MaskPseudoSampler MaxIoUAssigner MlvlPointGenerator
    MultiInsRandomSampler MultiInstanceAssigner OHEMSampler PointAssigner PointGenerator
    PseudoBBoxCoder PseudoSampler RandomSampler RegionAssigner SSDAnchorGenerator
    ScoreHLRSampler SimOTAAssigner TBLRBBoxCoder TaskAlignedAssigner TopkHungarianAssigner
    UniformAssigner YOLOAnchorGenerator YOLOBBoxCoder
    """.split()
)
OUR_TASK_UTILS = frozenset({'PseudoLabelSampler', 'RelabelSampler'})
# Arguments that MMDetection builds with its registry TASK_UTILS; all others are MODELS.
TASK_UTIL_ARGUMENTS = frozenset(
    """
    alignment_assigner anchor_coder anchor_generator approx_anchor_generator assigner bbox_coder
    cls_assigner cls_cost ga_assigner ga_sampler initial_assigner iou_calculator iou_cost
    match_cost match_costs neg_sampler point_generator pos_sampler prior_generator reg_assigner
    reg_cost sampler square_anchor_generator
    """.split()
)
# Arguments with a `type` that no registry resolves; MMCV evaluates the name of an NMS as code.
_NMS = frozenset({'nms', 'soft_nms'})
_TRANSITIONS = frozenset({'conv', 'interpolation_conv', 'last_conv'})
CHOICES = {
    'nms': _NMS,
    'dqs_cfg': _NMS,
    'roi_layer': frozenset(
        'DeformRoIPoolPack ModulatedDeformRoIPoolPack RoIAlign RoIPool SimpleRoIAlign'.split()
    ),
    'adapt_cfg': frozenset({'dilation', 'offset'}),
    'same_down_trans': _TRANSITIONS,
    'same_up_trans': _TRANSITIONS,
    'across_lateral_trans': _TRANSITIONS,
    'across_down_trans': _TRANSITIONS,
    'across_up_trans': _TRANSITIONS,
    'across_skip_trans': _TRANSITIONS,
    'output_trans': _TRANSITIONS,
}
