"""The distinct training pipelines of MMDetection's instance configs over our data set."""

from __future__ import annotations

from pathlib import Path

import mmdet
import pytest
from helpers.drawn import dataset_config, write_labelled_images
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.registry import DefaultScope

CONFIGS = Path(mmdet.__file__).parent / '.mim/configs'
# The first config, by name, of each distinct pipeline that needs no other library and no labels of
# another kind (stuff, tracks, weights of classes).
NAMES = """
carafe/mask-rcnn_r50_fpn-carafe_1x_coco cascade_rcnn/cascade-mask-rcnn_r101-caffe_fpn_ms-3x_coco
common/lsj-100e_coco-instance common/ms-poly-90k_coco-instance common/ms-poly_3x_coco-instance
common/ssj_270k_coco-instance common/ssj_scp_270k_coco-instance
convnext/cascade-mask-rcnn_convnext-s-p4-w7_fpn_4conv1fc-giou_amp-ms-crop-3x_coco
deepfashion/mask-rcnn_r50_fpn_15e_deepfashion fpg/mask-rcnn_r50_fpg-chn128_crop640-50e_coco
mask2former/mask2former_r101_8xb2-lsj-50e_coco mask_rcnn/mask-rcnn_r50-caffe_fpn_ms-1x_coco
mask_rcnn/mask-rcnn_r50-caffe_fpn_ms-poly-1x_coco mask_rcnn/mask-rcnn_r50_fpn_poly-1x_coco
queryinst/queryinst_r101_fpn_ms-480-800-3x_coco rtmdet/rtmdet-ins_l_8xb32-300e_coco
rtmdet/rtmdet-ins_s_8xb32-300e_coco rtmdet/rtmdet-ins_tiny_8xb32-300e_coco
selfsup_pretrain/mask-rcnn_r50-mocov2-pre_fpn_ms-2x_coco solo/decoupled-solo-light_r50_fpn_3x_coco
solo/decoupled-solo_r50_fpn_3x_coco solov2/solov2-light_r18_fpn_ms-3x_coco
strong_baselines/mask-rcnn_r50-caffe_fpn_rpn-2conv_4conv1fc_syncbn-all_lsj-400e_coco
yolact/yolact_r101_1xb8-55e_coco
""".split()


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('pipelines')
    write_labelled_images(folder, (2, 1, 3, 2))
    return folder


@pytest.fixture(autouse=True)
def scope():
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


def over_our_labels(config, folder, change=lambda step: step):
    """The data set of a config with ours in place of its innermost, and changed steps."""
    if 'dataset' in config:
        inner = over_our_labels(config.dataset, folder, change)
        return {**config, 'dataset': inner}
    return dataset_config(folder, [change(dict(step)) for step in config.pipeline])


def with_bitmaps(step):
    return {**step, 'poly2mask': True} if step['type'].endswith('LoadAnnotations') else step


@pytest.mark.slow
@pytest.mark.parametrize('name', NAMES)
def test_a_pipeline_finds_objects_or_is_refused_when_the_data_set_is_built(name, folder):
    config = Config.fromfile(CONFIGS / f'{name}.py').train_dataloader.dataset
    if "'poly2mask': False" in str(config):
        with pytest.raises(ValueError, match='poly2mask=True'):
            DATASETS.build(over_our_labels(config, folder))
        dataset = DATASETS.build(over_our_labels(config, folder, with_bitmaps))
    else:
        dataset = DATASETS.build(over_our_labels(config, folder))
    found = 0
    for index in range(len(dataset)):
        sample = dataset[index]
        instances = sample['data_samples'].gt_instances
        found += len(instances.bboxes)
        assert len(instances.masks) == len(instances.bboxes)
    assert found > 0
