"""Detectors and their parts in the registry MODELS that releases may name."""

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
_BACKBONES = frozenset(
    """
    CSPDarknet CSPNeXt Darknet DetectoRS_ResNeXt DetectoRS_ResNet EfficientNet HRNet
    HourglassNet MobileNetV2 PyramidVisionTransformer PyramidVisionTransformerV2 RegNet Res2Net
    ResNeSt ResNeXt ResNet ResNetV1d SSDVGG SwinTransformer TridentResNet
    """.split()
)
_NECKS = frozenset(
    """
    BFP CSPNeXtPAFPN CTResNetNeck ChannelMapper DilatedEncoder DyHead FPG FPN FPN_CARAFE
    FPN_DropBlock HRFPN NASFCOS_FPN NASFPN PAFPN RFP SSDNeck SSH YOLOV3Neck YOLOXPAFPN
    """.split()
)
_DENSE_HEADS = frozenset(
    """
    ATSSHead AnchorFreeHead AnchorHead AutoAssignHead BoxInstBboxHead BoxInstMaskHead
    CascadeRPNHead CenterNetHead CenterNetUpdateHead CentripetalHead CondInstBboxHead
    CondInstMaskHead ConditionalDETRHead CornerHead DABDETRHead DDODHead DDQDETRHead DETRHead
    DINOHead DecoupledSOLOHead DecoupledSOLOLightHead DeformableDETRHead EmbeddingRPNHead
    FCOSHead FSAFHead FoveaHead FreeAnchorRetinaHead GARPNHead GARetinaHead GFLHead
    GuidedAnchorHead LADHead LDHead Mask2FormerHead MaskFormerHead NASFCOSHead PAAHead
    PISARetinaHead PISASSDHead RPNHead RTMDetHead RTMDetInsHead RTMDetInsSepBNHead
    RTMDetSepBNHead RepPointsHead RetinaHead RetinaSepBNHead SABLRetinaHead SOLOHead SOLOV2Head
    SSDHead StageCascadeRPNHead TOODHead VFNetHead YOLACTHead YOLACTProtonet YOLOFHead
    YOLOV3Head YOLOXHead
    """.split()
)
_ROI_HEADS = frozenset(
    """
    BBoxHead CascadeRoIHead CoarseMaskHead ConvFCBBoxHead DIIHead DoubleConvFCBBoxHead
    DoubleHeadRoIHead DynamicMaskHead DynamicRoIHead FCNMaskHead FeatureRelayHead
    FusedSemanticHead GenericRoIExtractor GlobalContextHead GridHead GridRoIHead HTCMaskHead
    HybridTaskCascadeRoIHead MaskIoUHead MaskPointHead MaskScoringRoIHead MultiInstanceBBoxHead
    MultiInstanceRoIHead PISARoIHead PointRendRoIHead ResLayer ResLayerExtraNorm SABLHead
    SCNetBBoxHead SCNetMaskHead SCNetRoIHead SCNetSemanticHead Shared2FCBBoxHead
    Shared4Conv1FCBBoxHead SingleRoIExtractor SparseRoIHead StandardRoIHead TridentRoIHead
    """.split()
)
_SEGMENTATION_HEADS = frozenset(
    """
    BasePanopticFusionHead BaseSemanticHead HeuristicFusionHead MaskFormerFusionHead
    PanopticFPNHead
    """.split()
)
NETWORKS = _BACKBONES | _NECKS | _DENSE_HEADS | _ROI_HEADS | _SEGMENTATION_HEADS
# mmpretrain's backbones build layers only; TIMMBackbone, which takes a model's name, is not here.
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
