"""List what the config of a release may name: classes by registry, and words by argument.

Everything here is data for `trusted_config`. A class is on a list only after its code was read: it
builds layers from numbers, and reads no file, address or module that an argument names.
"""

from __future__ import annotations

DETECTORS = frozenset(
    """
    ATSS AutoAssign BoxInst CascadeRCNN CenterNet CondInst ConditionalDETR CornerNet CrowdDet
    DABDETR DDOD DDQDETR DETR DINO DeformableDETR FCOS FOVEA FSAF FastRCNN FasterRCNN GFL
    GridRCNN HybridTaskCascade Mask2Former MaskFormer MaskRCNN MaskScoringRCNN NASFCOS PAA
    PanopticFPN PointRend QueryInst RPN RTMDet RepPointsDetector RetinaNet SCNet SOLO SOLOv2
    SemiBaseDetector SingleStageDetector SingleStageInstanceSegmentor SoftTeacher SparseRCNN
    TOOD TridentFasterRCNN TwoStageDetector TwoStagePanopticSegmentor VFNet YOLACT YOLOF YOLOV3
    YOLOX
    """.split()
)
NETWORKS = frozenset(  # backbones, necks and heads
    """
    ATSSHead AnchorFreeHead AnchorHead AutoAssignHead BBoxHead BFP BasePanopticFusionHead
    BaseSemanticHead BoxInstBboxHead BoxInstMaskHead CSPDarknet CSPNeXt CSPNeXtPAFPN
    CTResNetNeck CascadeRPNHead CascadeRoIHead CenterNetHead CenterNetUpdateHead CentripetalHead
    ChannelMapper CoarseMaskHead CondInstBboxHead CondInstMaskHead ConditionalDETRHead
    ConvFCBBoxHead CornerHead DABDETRHead DDODHead DDQDETRHead DETRHead DIIHead DINOHead Darknet
    DecoupledSOLOHead DecoupledSOLOLightHead DeformableDETRHead DetectoRS_ResNeXt
    DetectoRS_ResNet DilatedEncoder DoubleConvFCBBoxHead DoubleHeadRoIHead DyHead
    DynamicMaskHead DynamicRoIHead EfficientNet EmbeddingRPNHead FCNMaskHead FCOSHead FPG FPN
    FPN_CARAFE FPN_DropBlock FSAFHead FeatureRelayHead FoveaHead FreeAnchorRetinaHead
    FusedSemanticHead GARPNHead GARetinaHead GFLHead GenericRoIExtractor GlobalContextHead
    GridHead GridRoIHead GuidedAnchorHead HRFPN HRNet HTCMaskHead HeuristicFusionHead
    HourglassNet HybridTaskCascadeRoIHead LADHead LDHead Mask2FormerHead MaskFormerFusionHead
    MaskFormerHead MaskIoUHead MaskPointHead MaskScoringRoIHead MobileNetV2
    MultiInstanceBBoxHead MultiInstanceRoIHead NASFCOSHead NASFCOS_FPN NASFPN PAAHead PAFPN
    PISARetinaHead PISARoIHead PISASSDHead PanopticFPNHead PointRendRoIHead
    PyramidVisionTransformer PyramidVisionTransformerV2 RFP RPNHead RTMDetHead RTMDetInsHead
    RTMDetInsSepBNHead RTMDetSepBNHead RegNet RepPointsHead Res2Net ResLayer ResLayerExtraNorm
    ResNeSt ResNeXt ResNet ResNetV1d RetinaHead RetinaSepBNHead SABLHead SABLRetinaHead
    SCNetBBoxHead SCNetMaskHead SCNetRoIHead SCNetSemanticHead SOLOHead SOLOV2Head SSDHead
    SSDNeck SSDVGG SSH Shared2FCBBoxHead Shared4Conv1FCBBoxHead SingleRoIExtractor SparseRoIHead
    StageCascadeRPNHead StandardRoIHead SwinTransformer TOODHead TridentResNet TridentRoIHead
    VFNetHead YOLACTHead YOLACTProtonet YOLOFHead YOLOV3Head YOLOV3Neck YOLOXHead YOLOXPAFPN
    """.split()
)
# mmpretrain's backbones build layers only; TIMMBackbone is left out, as it takes a model's name.
MMPRETRAIN = frozenset(
    """
    AlexNet BEiTViT CSPDarkNet CSPResNeXt CSPResNet Conformer ConvMixer ConvNeXt DaViT DeiT3
    DenseNet DistilledVisionTransformer EdgeNeXt EfficientFormer EfficientNet EfficientNetV2 GRN
    HRNet HiViT HorNet InceptionV3 LN2d LeNet5 LeViT MViT MixMIMTransformer MlpMixer MobileNetV2
    MobileNetV3 MobileOne MobileViT PCPVT PoolFormer PyramidVig RIFormer RegNet RepLKNet
    RepMLPNet RepVGG Res2Net ResNeSt ResNeXt ResNet ResNetV1c ResNetV1d ResNet_CIFAR
    RevVisionTransformer SEResNeXt SEResNet SVT ShiftWindowMSA ShuffleNetV1 ShuffleNetV2
    SwinTransformer SwinTransformerV2 T2T_ViT TNT TinyViT VAN VGG ViTEVA02 ViTSAM Vig
    VisionTransformer XCiT
    """.split()
)
OURS = frozenset(
    'DropLossBBoxHead SCMaskHead SCSoftTargetMaskLoss SingleMaskCascadeRoIHead'.split()
)
LOSSES = frozenset(
    """
    AssociativeEmbeddingLoss BalancedL1Loss BoundedIoULoss CIoULoss CrossEntropyCustomLoss
    CrossEntropyLoss DIoULoss DiceLoss DistributionFocalLoss EIoULoss EQLV2Loss FocalCustomLoss
    FocalLoss GHMC GHMR GIoULoss GaussianFocalLoss IoULoss KnowledgeDistillationKLDivLoss
    L1Loss L2Loss MSELoss MarginL2Loss MultiPosCrossEntropyLoss QualityFocalLoss SIoULoss
    SeesawLoss SmoothL1Loss TripletLoss VarifocalLoss
    """.split()
)
LAYERS = frozenset(  # layers of MMDetection, MMCV and torch, all in the registry MODELS
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
OUR_TASK_UTILS = frozenset({'PseudoLabelAssigner', 'PseudoLabelSampler', 'RelabelSampler'})
# Arguments that MMDetection builds with its registry TASK_UTILS; all others use MODELS.
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
CHOICES = {
    'nms': _NMS,
    'dqs_cfg': _NMS,
    'roi_layer': frozenset(
        'DeformRoIPoolPack ModulatedDeformRoIPoolPack RoIAlign RoIPool SimpleRoIAlign'.split()
    ),
    'adapt_cfg': frozenset({'dilation', 'offset'}),
    **dict.fromkeys(
        (
            *('same_down_trans', 'same_up_trans', 'across_lateral_trans', 'across_down_trans'),
            *('across_up_trans', 'across_skip_trans', 'output_trans'),
        ),
        frozenset({'conv', 'interpolation_conv', 'last_conv'}),
    ),
}
_REASONS = {
    'a language model, which is fetched by its name': """
        ATSSVLFusionHead BertModel GLIP GroundingDINO GroundingDINOHead
        """,
    'a distillation, which reads its teacher from files; publish the student alone': """
        KnowledgeDistillationSingleStageDetector LAD
        """,
    'another framework, which reads its own configs': 'Detectron2Wrapper',
    'a backbone that is fetched by its name': 'TIMMBackbone',
    'a preprocessor, which is made from the numbers in data_preprocessor': """
        BaseDataPreprocessor BatchFixedSizePad BatchResize BatchSyncRandomResize
        BoxInstDataPreprocessor DetDataPreprocessor ImgDataPreprocessor LineDetDataProcessor
        MultiBranchDataPreprocessor ReIDDataPreprocessor TrackDataPreprocessor
        """,
    'a part for videos, which finds no objects in single images': """
        AppearanceFreeLink BaseMOTModel BaseReID ByteTrack ByteTracker CameraMotionCompensation
        DeepSORT FcModule GlobalAveragePooling InterpolateTracklets KalmanFilter LinearReIDHead
        Mask2FormerTrackHead Mask2FormerVideo MaskTrackRCNN MaskTrackRCNNTracker OCSORT
        OCSORTTracker QDTrack QuasiDenseEmbedHead QuasiDenseTrackHead QuasiDenseTracker
        RoIEmbedHead RoITrackHead SORTTracker StrongSORT StrongSORTTracker
        """,
    'a part for lanes, which finds no objects': 'CLRFPN CLRHead CLRNet',
    'a part for point clouds': """
        SparseConv2d SparseConv3d SparseConv4d SparseConvTranspose2d SparseConvTranspose3d
        SparseInverseConv2d SparseInverseConv3d SubMConv2d SubMConv3d SubMConv4d
        """,
    'a wrapper of a model that is built already': """
        BaseTTAModel DetTTAModel ExpMomentumEMA ExponentialMovingAverage MomentumAnnealingEMA
        StochasticWeightAverage
        """,
    'a part for pre-training on masked images': 'SparseConvNeXt SparseResNet',
    'an abstract class': 'DetectionTransformer',
    'a source of labels, which reads files': """
        ColorTextureFeatures DepthFromFile DetectorLabeller HFDepth MarigoldDepth
        PseudoLabelGenerator TimmFeatures ViTKeyFeatures
        """,
}
REASONS = {name: reason for reason, names in _REASONS.items() for name in names.split()}
# Arguments that their classes take as a tuple only; JSON knows lists.
TUPLES = frozenset(
    """
    act_cfg basesize_ratio_range img_size neg_iou_thr order out_indices pretrain_img_size topk
    window_size
    """.split()
)
_FLAGS = ' '.join(f'{number:04b}' for number in range(16))  # as GeneralizedAttention takes them
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
