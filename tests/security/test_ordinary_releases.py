"""Releases of ordinary detectors load and detect, whatever their kind."""

from __future__ import annotations

import json
from pathlib import Path

import mmdet
import numpy as np
import pytest
import torch
from helpers.tiny_detectors import TINY
from mmengine.config import Config
from PIL import Image
from safetensors.torch import save_file

from cuts3d_mm.configs import find_config
from cuts3d_mm.hub.client import CONFIG_FILE
from cuts3d_mm.hub.trusted_config import read_release_config
from cuts3d_mm.labellers.detector import build_release_model

SHIPPED = Path(mmdet.__file__).parent / '.mim/configs'
ORDINARY = (
    'mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py',
    'faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
    'cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco.py',
    'htc/htc-without-semantic_r50_fpn_1x_coco.py',
    'ms_rcnn/ms-rcnn_r50-caffe_fpn_1x_coco.py',
    'point_rend/point-rend_r50-caffe_fpn_ms-1x_coco.py',
    'rtmdet/rtmdet-ins_tiny_8xb32-300e_coco.py',
    'mask2former/mask2former_r50_8xb2-lsj-50e_coco.py',
    'solo/solo_r50_fpn_1x_coco.py',
    'solov2/solov2-light_r18_fpn_ms-3x_coco.py',
    'queryinst/queryinst_r50_fpn_1x_coco.py',
    'condinst/condinst_r50_fpn_ms-poly-90k_coco_instance.py',
    'yolact/yolact_r50_1xb8-55e_coco.py',
    'retinanet/retinanet_r18_fpn_1x_coco.py',
    'fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py',
    'detr/detr_r50_8xb2-150e_coco.py',
    TINY,
)
SCALE_WH = (128, 96)  # pixels


def small_config(name):
    """The config with narrow layers, small test images and few detections."""
    path = find_config(name) if name == TINY else SHIPPED / name
    config = Config.fromfile(str(path))
    backbone = config.model.backbone
    if backbone.type == 'ResNet' and backbone.depth == 50:
        backbone.depth = 18
        neck = config.model.get('neck')
        if neck and neck.type == 'FPN':
            neck.in_channels = [64, 128, 256, 512]
        elif neck:
            neck.in_channels = [512]
        if 'panoptic_head' in config.model:
            config.model.panoptic_head.in_channels = [64, 128, 256, 512]
    narrow(config.model)
    limits = config.model.get('test_cfg') or {}
    for part in (limits, limits.get('rcnn') or {}):
        if 'max_per_img' in part and 'nms' in part:
            part.max_per_img = 5
    for step in config.test_dataloader.dataset.pipeline:
        if step['type'] in ('Resize', 'Pad'):
            step['scale' if step['type'] == 'Resize' else 'size'] = SCALE_WH
    return config


def narrow(part):
    """Narrow the fully connected layers, which have most of the weights."""
    for child in part.values() if isinstance(part, dict) else part:
        if isinstance(child, (dict, list)):
            narrow(child)
    for key in ('fc_out_channels', 'feedforward_channels'):
        if isinstance(part, dict) and key in part:
            part[key] = 64


def write_release(folder, config):
    """As an author publishes it by hand: the whole config of the training, random weights."""
    folder.mkdir()
    (folder / CONFIG_FILE).write_text(json.dumps(config.to_dict()))
    torch.manual_seed(0)
    checked = Config(read_release_config(folder / CONFIG_FILE))
    any_size = {'w': torch.empty(1 << 40, device='meta')}
    model = build_release_model(checked.model, any_size)
    model.init_weights()  # whole images as the first boxes of QueryInst
    # Random deltas grow without end over the stages of a QueryInst.
    weights = {k: v.clone() * ('fc_reg' not in k) for k, v in model.state_dict().items()}
    save_file(weights, folder / 'model.safetensors')
    return folder


@pytest.mark.slow
@pytest.mark.parametrize('name', ORDINARY)
def test_ordinary_releases_load_and_detect(cuts3d, tmp_path, name):
    pixels = np.random.default_rng(0).integers(0, 255, (60, 88, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / 'photo.png')
    release = write_release(tmp_path / 'release', small_config(name))
    code, out, err = cuts3d(
        'detect', tmp_path / 'photo.png', '--model', release, '--device', 'cpu',
        '--out', tmp_path / 'out', '--score-thr', '0',
    )  # fmt: skip
    assert code == 0 and out.startswith('1 images: ') and '0 failures' in out, err
    assert (tmp_path / 'out/detections.json').is_file()
