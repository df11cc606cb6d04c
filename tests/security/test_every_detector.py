"""A config for every detector and part that MMDetection ships builds through the door."""

from __future__ import annotations

import json
import time
from pathlib import Path

import mmdet
import pytest
import torch
from mmengine.config import Config

from cuts3d_mm.hub.allow_list import DETECTORS, NETWORKS
from cuts3d_mm.hub.trusted_config import parse_release_config
from cuts3d_mm.labellers.detector import build_release_model

SHIPPED = Path(mmdet.__file__).parent / '.mim/configs'
# Files with small backbones that together name every class which a shipped file names.
FILES = """
    autoassign/autoassign_r50-caffe_fpn_1x_coco
    boxinst/boxinst_r50_fpn_ms-90k_coco
    carafe/faster-rcnn_r50_fpn-carafe_1x_coco
    cascade_rpn/cascade-rpn_faster-rcnn_r50-caffe_fpn_1x_coco
    centernet/centernet-update_r18_fpn_8xb8-amp-lsj-200e_coco
    centernet/centernet_r18-dcnv2_8xb16-crop512-140e_coco
    centripetalnet/centripetalnet_hourglass104_16xb6-crop511-210e-mstest_coco
    condinst/condinst_r50_fpn_ms-poly-90k_coco_instance
    conditional_detr/conditional-detr_r50_8xb2-50e_coco
    convnext/cascade-mask-rcnn_convnext-t-p4-w7_fpn_4conv1fc-giou_amp-ms-crop-3x_coco
    cornernet/cornernet_hourglass104_8xb6-210e-mstest_coco
    crowddet/crowddet-rcnn_refine_r50_fpn_8xb2-30e_crowdhuman
    dab_detr/dab-detr_r50_8xb2-50e_coco
    dcn/faster-rcnn_r50-dconv-c3-c5_fpn_1x_coco
    dcn/faster-rcnn_r50_fpn_dpool_1x_coco
    dcnv2/faster-rcnn_r50_fpn_mdpool_1x_coco
    ddod/ddod_r50_fpn_1x_coco
    ddq/ddq-detr-4scale_r50_8xb2-12e_coco
    deformable_detr/deformable-detr-refine-twostage_r50_16xb2-50e_coco
    detectors/detectors_cascade-rcnn_r50_1x_coco
    detr/detr_r18_8xb2-500e_coco
    dino/dino-4scale_r50_8xb2-12e_coco
    double_heads/dh-faster-rcnn_r50_fpn_1x_coco
    dyhead/atss_r50_fpn_dyhead_1x_coco
    dynamic_rcnn/dynamic-rcnn_r50_fpn_1x_coco
    efficientnet/retinanet_effb3_fpn_8xb4-crop896-1x_coco
    faster_rcnn/faster-rcnn_r50_fpn_ciou_1x_coco
    faster_rcnn/faster-rcnn_r50_fpn_ohem_1x_coco
    foveabox/fovea_r50_fpn_4xb4-1x_coco
    fpg/retinanet_r50_fpg_crop640_50e_coco
    free_anchor/freeanchor_r50_fpn_1x_coco
    fsaf/fsaf_r50_fpn_1x_coco
    gcnet/mask-rcnn_r50-gcb-r4-c3-c5_fpn_1x_coco
    gfl/gfl_r50_fpn_1x_coco
    ghm/retinanet_r50_fpn_ghm-1x_coco
    gn+ws/faster-rcnn_x50-32x4d_fpn_gn-ws-all_1x_coco
    groie/grid-rcnn_r50_fpn_gn-head-groie_1x_coco
    guided_anchoring/ga-retinanet_r50-caffe_fpn_1x_coco
    guided_anchoring/ga-rpn_r50-caffe_fpn_1x_coco
    hrnet/htc_hrnetv2p-w18_20e_coco
    legacy_1.x/retinanet_r50-caffe_fpn_1x_coco_v1
    legacy_1.x/ssd300_coco_v1
    libra_rcnn/libra-fast-rcnn_r50_fpn_1x_coco
    mask2former/mask2former_r50_8xb2-lsj-50e_coco
    maskformer/maskformer_r50_ms-16xb1-75e_coco
    maskformer/maskformer_swin-l-p4-w12_64xb1-ms-300e_coco
    ms_rcnn/ms-rcnn_r50-caffe_fpn_1x_coco
    nas_fcos/nas-fcos_r50-caffe_fpn_nashead-gn-head_4xb4-1x_coco
    nas_fpn/retinanet_r50_nasfpn_crop640-50e_coco
    paa/paa_r50_fpn_1x_coco
    pafpn/faster-rcnn_r50_pafpn_1x_coco
    panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco
    pisa/faster-rcnn_r50_fpn_pisa_1x_coco
    pisa/retinanet-r50_fpn_pisa_1x_coco
    pisa/ssd300_pisa_coco
    point_rend/point-rend_r50-caffe_fpn_ms-1x_coco
    pvt/retinanet_pvt-s_fpn_1x_coco
    pvt/retinanet_pvtv2-b0_fpn_1x_coco
    queryinst/queryinst_r50_fpn_1x_coco
    regnet/retinanet_regnetx-1.6GF_fpn_1x_coco
    reppoints/reppoints-moment_r50_fpn_1x_coco
    resnest/faster-rcnn_s50_fpn_syncbn-backbone+head_ms-range-1x_coco
    rtmdet/rtmdet-ins_tiny_8xb32-300e_coco
    rtmdet/rtmdet_tiny_8xb32-300e_coco
    sabl/sabl-cascade-rcnn_r50_fpn_1x_coco
    sabl/sabl-retinanet_r50_fpn_1x_coco
    scnet/scnet_r50_fpn_1x_coco
    seesaw_loss/mask-rcnn_r50_fpn_seesaw-loss-normed-mask_random-ms-2x_lvis-v1
    soft_teacher/soft-teacher_faster-rcnn_r50-caffe_fpn_180k_semi-0.1-coco
    solo/decoupled-solo-light_r50_fpn_3x_coco
    solo/decoupled-solo_r50_fpn_1x_coco
    solo/solo_r18_fpn_8xb8-lsj-200e_coco
    solov2/solov2-light_r18_fpn_ms-3x_coco
    sparse_rcnn/sparse-rcnn_r50_fpn_1x_coco
    ssd/ssdlite_mobilenetv2-scratch_8xb24-600e_coco
    strong_baselines/mask-rcnn_r50-caffe_fpn_rpn-2conv_4conv1fc_syncbn-all_lsj-100e_coco
    tood/tood_r50_fpn_1x_coco
    tridentnet/tridentnet_r50-caffe_1x_coco
    v3det/faster_rcnn_r50_fpn_8x4_sample1e-3_mstrain_v3det_2x
    v3det/fcos_r50_fpn_8x4_sample1e-3_mstrain_v3det_2x
    vfnet/vfnet_res2net-101_fpn_ms-2x_coco
    yolact/yolact_r50_1xb8-55e_coco
    yolo/yolov3_d53_8xb8-320-273e_coco
    yolo/yolov3_mobilenetv2_8xb24-ms-416-300e_coco
    yolof/yolof_r50-c5_8xb8-1x_coco
    yolox/yolox_nano_8xb8-300e_coco
""".split()
# Classes that no shipped file names: bases of others, and variants.
UNNAMED = frozenset(
    """
    AnchorFreeHead AnchorHead BasePanopticFusionHead BaseSemanticHead DetectoRS_ResNeXt
    FPN_DropBlock GuidedAnchorHead LADHead LDHead RTMDetHead RTMDetInsHead ResLayerExtraNorm
    ResNetV1d SSH SemiBaseDetector SingleStageInstanceSegmentor TwoStageDetector
    TwoStagePanopticSegmentor
    """.split()
)
LONGEST_S = 60  # of one core
ANY_SIZE = {'w': torch.empty(1 << 40, device='meta')}


def types_of(value):
    """Names of all classes in a tree."""
    if isinstance(value, dict):
        own = {value['type'].rpartition('.')[2]} if isinstance(value.get('type'), str) else set()
        return own.union(*(types_of(one) for one in value.values()))
    return set().union(*map(types_of, value)) if isinstance(value, (list, tuple)) else set()


@pytest.mark.slow
def test_every_detector_and_part_that_mmdetection_ships_is_built(without_random_weights):
    found = set()
    started = time.process_time()
    for name in FILES:
        config = Config.fromfile(str(SHIPPED / f'{name}.py'))
        checked = parse_release_config(json.dumps(config.to_dict()), name)
        build_release_model(Config(checked).model, ANY_SIZE)
        found |= types_of(checked['model'])
    assert time.process_time() - started < LONGEST_S
    assert (DETECTORS | NETWORKS) - found == UNNAMED


def variant(name, **changes):
    config = Config.fromfile(str(SHIPPED / name))
    config.merge_from_dict(changes)
    return parse_release_config(json.dumps(config.to_dict()), name)


@pytest.mark.parametrize(
    ('name', 'changes'),
    [
        ('retinanet/retinanet_r18_fpn_1x_coco.py', {'model.type': 'SingleStageDetector'}),
        ('faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py', {'model.type': 'TwoStageDetector'}),
        (
            'solo/solo_r18_fpn_8xb8-lsj-200e_coco.py',
            {'model.type': 'SingleStageInstanceSegmentor'},
        ),
        (
            'panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco.py',
            {'model.type': 'TwoStagePanopticSegmentor'},
        ),
        (
            'soft_teacher/soft-teacher_faster-rcnn_r50-caffe_fpn_180k_semi-0.1-coco.py',
            {'model.type': 'SemiBaseDetector'},
        ),
    ],
)
def test_base_detectors_that_no_file_names_are_built(without_random_weights, name, changes):
    build_release_model(Config(variant(name, **changes)).model, ANY_SIZE)
