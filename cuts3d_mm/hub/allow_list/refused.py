"""Classes of the registries that releases may not name, each with its reason."""

from __future__ import annotations

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
    'for videos, it finds no objects in single images': """
        AppearanceFreeLink BaseMOTModel BaseReID ByteTrack ByteTracker CameraMotionCompensation
        DeepSORT FcModule GlobalAveragePooling InterpolateTracklets KalmanFilter LinearReIDHead
        Mask2FormerTrackHead Mask2FormerVideo MaskTrackRCNN MaskTrackRCNNTracker OCSORT
        OCSORTTracker QDTrack QuasiDenseEmbedHead QuasiDenseTrackHead QuasiDenseTracker
        RoIEmbedHead RoITrackHead SORTTracker StrongSORT StrongSORTTracker
        """,
    'for lanes, it finds no objects': 'CLRFPN CLRHead CLRNet',
    'for point clouds': """
        SparseConv2d SparseConv3d SparseConv4d SparseConvTranspose2d SparseConvTranspose3d
        SparseInverseConv2d SparseInverseConv3d SubMConv2d SubMConv3d SubMConv4d
        """,
    'a wrapper of a model that is built already': """
        BaseTTAModel DetTTAModel ExpMomentumEMA ExponentialMovingAverage MomentumAnnealingEMA
        StochasticWeightAverage
        """,
    'for pre-training on masked images': 'SparseConvNeXt SparseResNet',
    'an abstract class': 'DetectionTransformer',
    'a source of labels, which reads files': """
        ColorTextureFeatures DepthFromFile DetectorLabeller HFDepth MarigoldDepth
        PseudoLabelGenerator TimmFeatures ViTKeyFeatures
        """,
}
REASONS = {name: reason for reason, names in _REASONS.items() for name in names.split()}
