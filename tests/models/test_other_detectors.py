"""The data set and the copy-paste in detectors that know nothing of confidence."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.drawn import LOADING, dataset_config, write_labelled_images
from mmdet.registry import DATASETS, MODELS
from mmengine.config import Config, ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope

SMALL_RESNET = dict(depth=18, base_channels=16, init_cfg=None, norm_cfg=dict(type='BN'))
WIDTHS = [16, 32, 64, 128]


@pytest.fixture
def batch(tmp_path):
    init_default_scope('mmdet')
    write_labelled_images(tmp_path, (2, 1, 3, 2), image_hw=(96, 128))
    config = {
        'type': 'MultiImageMixDataset',
        'dataset': dataset_config(tmp_path, LOADING),
        'pipeline': [{'type': 'cuts3d_mm.ConfidentCopyPaste'}, {'type': 'PackDetInputs'}],
    }
    dataset = DATASETS.build(config)
    np.random.seed(0)
    return pseudo_collate([dataset[index] for index in range(2)])


def stock_model(name):
    return Config.fromstring(f"_base_ = 'mmdet::{name}'", '.py').model


def trained_losses(model_config, batch):
    model = MODELS.build(model_config).train()
    data = model.data_preprocessor(batch, training=True)
    losses, log = model.parse_losses(model(**data, mode='loss'))
    losses.backward()
    return log


@pytest.mark.slow
def test_mask_rcnn_trains_with_our_mask_head(batch):
    model = stock_model('mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py')
    model.backbone.update(SMALL_RESNET)
    model.neck.in_channels = WIDTHS
    model.roi_head.bbox_head.update(num_classes=1, fc_out_channels=64)
    model.roi_head.mask_head.update(type='cuts3d_mm.SCMaskHead', num_classes=1)
    model.roi_head.mask_head.loss_mask = ConfigDict(type='cuts3d_mm.SCSoftTargetMaskLoss')
    assert trained_losses(model, batch)['loss_mask'] > 0


def test_rtmdet_ins_trains_on_pseudo_labels(batch):
    model = stock_model('rtmdet/rtmdet-ins_tiny_8xb32-300e_coco.py')
    model.backbone.init_cfg = None
    model.bbox_head.num_classes = 1
    model.data_preprocessor.batch_augments = None
    assert trained_losses(model, batch)['loss_mask'] > 0


@pytest.mark.slow
def test_mask2former_trains_on_pseudo_labels(batch):
    model = stock_model('mask2former/mask2former_r50_8xb2-lsj-50e_coco.py')
    model.backbone.update(SMALL_RESNET)
    model.data_preprocessor.batch_augments = None
    head = model.panoptic_head
    head.in_channels = WIDTHS
    head.num_things_classes, head.num_stuff_classes = 1, 0
    head.num_queries = 10
    head.loss_cls.class_weight = [1.0, 0.1]
    head.pixel_decoder.encoder.num_layers = 1
    head.transformer_decoder.num_layers = 2
    model.panoptic_fusion_head.update(num_things_classes=1, num_stuff_classes=0)
    assert trained_losses(model, batch)['loss_mask'] > 0
