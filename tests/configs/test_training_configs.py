from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.drawn import write_labelled_images
from helpers.tiny_detectors import batch_of
from helpers.training import shrink_model
from mmdet.registry import DATASETS, LOOPS, MODELS, TASK_UTILS, TRANSFORMS
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import HOOKS, init_default_scope
from mmengine.structures import InstanceData

from cuts3d_mm.configs import find_config

CONFIGS = Path(__file__).parents[2] / 'configs'
SEMI = 'cutler_cascade-mask-rcnn_r50_fpn_8xb2_coco-semi.py'
FULL = sorted(path for path in (CONFIGS / 'cuts3d').glob('*.py') if path.name != SEMI)
STOCK = 'cuts3d_stock-cascade-mask-rcnn_r50_fpn_1x.py'
INITIAL = 'cuts3d_cascade-mask-rcnn_r50_fpn_8xb2-amp-160k_imagenet.py'
SHORT_SIDES = [240, 320, 480, 640, 672, 704, 736, 768, 800, 1024]  # pixels, of CutLER and CuVLER
SELF_TRAINING = 'cuts3d_cascade-mask-rcnn_r50_fpn_8xb2-amp-80k_self-training.py'


def load(name):
    init_default_scope('mmdet')
    return Config.fromfile(str(CONFIGS / 'cuts3d' / name))


@pytest.mark.slow
@pytest.mark.parametrize('path', FULL, ids=lambda path: path.stem)
def test_model_and_training_pipeline_of_every_config_can_be_built(
    path, tmp_path, without_random_weights
):
    write_labelled_images(tmp_path, image_hw=(60, 90))
    config = load(path.name)
    model = MODELS.build(config.model)
    box_heads = model.roi_head.bbox_head
    first = box_heads[0] if isinstance(box_heads, torch.nn.ModuleList) else box_heads
    assert first.num_classes == 1
    dataset = config.train_dataloader.dataset
    dataset.dataset.update(
        ann_file=str(tmp_path / 'labels'), data_prefix=dict(img=str(tmp_path / 'images'))
    )
    sample = DATASETS.build(dataset)[0]
    assert sample['data_samples'].gt_instances.masks.doubt.shape[1:] == sample['inputs'].shape[1:]


@pytest.mark.slow
def test_whole_method_trains_in_the_stock_cascade(rng):
    config = load(STOCK).model
    shrink_model(config)
    model = MODELS.build(config).train()
    inputs, samples = batch_of((2, 1), rng)
    losses = model.loss(inputs, samples)
    masks = [name for name in losses if name.endswith('loss_mask')]
    assert type(model.roi_head).__name__ == 'CascadeRoIHead'
    assert masks == ['s0.loss_mask', 's1.loss_mask', 's2.loss_mask']
    total, _ = model.parse_losses(losses)
    total.backward()


def test_initial_round_has_the_hyperparameters_of_cutler():
    config = load(INITIAL)
    optimizer = config.optim_wrapper.optimizer
    assert (optimizer.lr, optimizer.weight_decay, optimizer.momentum) == (0.01, 5e-5, 0.9)
    assert config.train_cfg.max_iters == 160000
    assert config.param_scheduler[1].milestones == [80000]
    assert config.param_scheduler[1].gamma == 0.02
    assert config.auto_scale_lr.base_batch_size == 16
    assert [head.drop_iou for head in config.model.roi_head.bbox_head] == [0.01] * 3
    rpn = config.model.train_cfg.rpn_proposal
    assert (rpn.max_per_img, rpn.nms.iou_threshold) == (4000, 0.65)
    scales = config.train_dataloader.dataset.dataset.pipeline[2].scales
    assert [scale[1] for scale in scales] == SHORT_SIDES
    assert config.model.backbone.norm_cfg.type == config.model.neck.norm_cfg.type == 'SyncBN'
    assert config.model.test_cfg.rpn.nms.iou_threshold == 0.65


OURS = [path for path in FULL if path.name != STOCK] + sorted((CONFIGS / 'demo').glob('*.py'))


@pytest.mark.parametrize('path', OURS, ids=lambda path: path.stem)
def test_every_training_clips_each_parameter_and_measures_its_norms_without_decay(path):
    config = load(path)
    hooks = {hook.type: hook for hook in config.custom_hooks}
    assert 'cuts3d_mm.PreciseBNHook' in hooks
    wrappers = [config.optim_wrapper]
    if 'rounds' in config.train_cfg:
        wrappers.append(config.train_cfg.optim_wrapper)
    for wrapper in wrappers:
        is_amp = '-amp-' in path.stem
        kind = f'cuts3d_mm.{"Amp" if is_amp else ""}PerParameterClipOptimWrapper'
        assert (wrapper.type, wrapper.clip_grad) == (kind, {'max_norm': 1.0})
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    for wrapper in wrappers:
        built = build_optim_wrapper(network, dict(wrapper, type='OptimWrapper'))
        decays = [group['weight_decay'] for group in built.param_groups if group['params']]
        assert decays == [wrapper.optimizer.weight_decay] * 2 + [0, 0]


def test_the_mask_rcnn_of_cutler_falls_to_a_tenth_and_trains_without_mixed_precision():
    config = load('cutler_mask-rcnn_r50_fpn_8xb2-160k_imagenet.py')
    assert config.param_scheduler[1].gamma == 0.1
    assert config.optim_wrapper.type == 'cuts3d_mm.PerParameterClipOptimWrapper'


def test_a_renamed_config_is_found_by_the_name_in_the_error():
    with pytest.raises(ValueError, match='nearest: cutler_mask-rcnn_r50_fpn_8xb2-160k_imagenet,'):
        find_config('cutler_mask-rcnn_r50_fpn_8xb2-amp-160k_imagenet.py')


def test_a_label_has_an_anchor_however_small_and_none_without_overlap():
    assigner = TASK_UTILS.build(load(INITIAL).model.train_cfg.rpn.assigner)
    anchors = torch.tensor([[0.0, 0, 512, 512], [600, 0, 632, 32], [1000, 0, 1512, 512]])
    labels = torch.tensor([[100.0, 100, 102, 102], [700, 700, 710, 710]])
    found = assigner.assign(
        InstanceData(priors=anchors), InstanceData(bboxes=labels, labels=torch.zeros(2).long())
    )
    assert found.gt_inds.tolist() == [1, 0, 0]


def test_labels_by_cuts_have_the_lower_bound_of_the_paper():
    others = {'lower-bound-75': 0.75, 'in-domain-coco': 0.0}
    for path in FULL:
        expected = next((others[name] for name in others if name in path.name), 0.5)
        steps = load(path.name).train_dataloader.dataset.dataset.pipeline
        transform = TRANSFORMS.build(steps[1])
        assert transform.lower_bound == round(255 * expected)


def test_self_training_differs_where_cutler_does():
    config = load(SELF_TRAINING)
    optimizer = config.optim_wrapper.optimizer
    assert (optimizer.lr, optimizer.weight_decay) == (0.005, 1e-4)
    assert config.train_cfg.max_iters == 80000
    assert [head.drop_iou for head in config.model.roi_head.bbox_head] == [None] * 3
    rpn = config.model.train_cfg.rpn_proposal
    assert (rpn.max_per_img, rpn.nms.iou_threshold) == (1000, 0.7)
    assert config.train_dataloader.dataset.pipeline[0].scale_range == (0.5, 1.0)


@pytest.mark.parametrize(
    'name, kind, alpha, loss',
    [
        ('ablation-no-confidence', 'AlphaBlendCopyPaste', False, 'none'),
        ('ablation-selection', 'ConfidentCopyPaste', False, 'none'),
        ('ablation-selection-alpha', 'ConfidentCopyPaste', True, 'none'),
        ('imagenet', 'ConfidentCopyPaste', True, 'map'),
    ],
)
def test_rows_of_table_7_add_one_use_of_confidence_after_the_other(name, kind, alpha, loss):
    config = load(f'cuts3d_cascade-mask-rcnn_r50_fpn_8xb2-amp-160k_{name}.py')
    paste = config.train_dataloader.dataset.pipeline[0]
    assert (paste.type, paste.alpha) == (f'cuts3d_mm.{kind}', alpha)
    assert config.model.roi_head.mask_head.confidence_source == loss


def pasted_counts(name, available, draws=50):
    """How many of some instances the copy-paste of a config pastes, seed by seed."""
    paste = TRANSFORMS.build(load(name).train_dataloader.dataset.pipeline[0])
    counts = []
    for seed in range(draws):
        np.random.seed(seed)
        counts.append(len(paste._select(np.linspace(1, 0, available))))
    return counts


@pytest.mark.parametrize('name', [path.name for path in FULL if 'in-domain' not in path.name])
def test_every_config_draws_as_many_instances_as_cutler(name):
    expected = [np.random.RandomState(seed).randint(1, 5) for seed in range(50)]
    assert pasted_counts(name, 5) == expected
    assert set(pasted_counts(name, 1)) == {1}


def test_in_domain_training_pastes_all_instances_as_cuvler_does():
    name = 'cuts3d_cascade-mask-rcnn_r50_fpn_8xb2-amp-15k_in-domain-coco.py'
    assert set(pasted_counts(name, 5)) == {5}


def test_average_confidence_is_compared_without_the_loss():
    row = load('cuts3d_cascade-mask-rcnn_r50_fpn_8xb2-amp-160k_ablation-average-confidence.py')
    assert row.model.roi_head.mask_head.confidence_source == 'none'
    paste = row.train_dataloader.dataset.pipeline[0]
    assert (paste.type, paste.alpha) == ('cuts3d_mm.ConfidentCopyPaste', True)
    assert row.train_dataloader.dataset.dataset.pipeline[1].confidence_source == 'score'


def test_rounds_of_self_training_have_the_hyperparameters_of_cutler():
    config = load('cuts3d_cascade-mask-rcnn_r50_fpn_8xb2-amp-400k_rounds.py')
    alone = load(SELF_TRAINING)
    loop = config.train_cfg
    assert LOOPS.get(loop.type) is not None
    assert loop.optim_wrapper == alone.optim_wrapper
    assert loop.param_scheduler == alone.param_scheduler
    for key in ('max_per_img', 'nms'):
        given = loop.model_train_cfg.rpn_proposal[key]
        assert given == alone.model.train_cfg.rpn_proposal[key]
    assert [one.score_thr for one in loop.rounds] == [0.7, 0.65, 0.65]
    lengths = [b - a for a, b in zip([160000, 240000], [240000, 320000], strict=True)]
    assert lengths == [alone.train_cfg.max_iters] * 2
    assert config.train_cfg.max_iters - loop.rounds[-1].begin == alone.train_cfg.max_iters


def test_in_domain_training_has_every_hyperparameter_of_cuvler():
    """Every field of its file that is about the training, and detectron2's defaults."""
    config = load('cuts3d_cascade-mask-rcnn_r50_fpn_8xb2-amp-15k_in-domain-coco.py')
    model, wrapper = config.model, config.optim_wrapper
    heads, stages = model.roi_head.bbox_head, model.train_cfg.rcnn
    warmup, steps = config.param_scheduler
    paste = config.train_dataloader.dataset.pipeline[0]
    scales = config.train_dataloader.dataset.dataset.pipeline[2].scales
    precise_bn = next(one for one in config.custom_hooks if one.type.endswith('PreciseBNHook'))
    soft_targets = (
        {head.confidence_source for head in heads},
        model.roi_head.mask_head.confidence_source,
    )
    facts = {  # name -> ours, CuVLER's
        'COPY_PASTE_RANDOM_NUM': (not paste.paste_all, False),
        'COPY_PASTE_RATIO': (tuple(paste.scale_range), (0.5, 1.0)),
        'PIXEL_MEAN': (model.data_preprocessor.mean, [123.675, 116.28, 103.53]),
        'PIXEL_STD': (model.data_preprocessor.std, [58.395, 57.12, 57.375]),
        'FREEZE_AT': (model.backbone.frozen_stages + 1, 0),
        'DEPTH': (model.backbone.depth, 50),
        'NORM': ((model.backbone.norm_cfg.type, model.neck.norm_cfg.type), ('SyncBN', 'SyncBN')),
        'STRIDE_IN_1X1': (model.backbone.style != 'pytorch', False),
        'CLS_AGNOSTIC_BBOX_REG': ({head.reg_class_agnostic for head in heads}, {True}),
        'NUM_CLASSES': ({head.num_classes for head in heads}, {1}),
        'SCORE_THRESH_TEST': (model.test_cfg.rcnn.score_thr, 0.0),
        'POSITIVE_FRACTION': (stages[0].sampler.pos_fraction, 0.25),
        'DROPLOSS_IOU_THRESH': ({head.drop_iou for head in heads}, {0.01}),
        'USE_SOFT_TARGETS': (soft_targets, ({'score'}, 'score')),
        'PRE_NMS_TOPK_TRAIN': (model.train_cfg.rpn_proposal.nms_pre, 2000),
        'POST_NMS_TOPK_TRAIN': (model.train_cfg.rpn_proposal.max_per_img, 1000),
        'NMS_THRESH': (model.train_cfg.rpn_proposal.nms.iou_threshold, 0.7),
        'IMS_PER_BATCH': (8 * config.train_dataloader.batch_size, 16),
        'BASE_LR': (wrapper.optimizer.lr, 0.05),
        'MOMENTUM': (wrapper.optimizer.momentum, 0.9),
        'WEIGHT_DECAY': (wrapper.optimizer.weight_decay, 1e-4),
        'WEIGHT_DECAY_NORM': (wrapper.paramwise_cfg.norm_decay_mult, 0.0),
        'STEPS': (steps.milestones, [7400]),
        'GAMMA': (steps.gamma, 0.02),
        'WARMUP': ((warmup.start_factor, warmup.end), (0.001, 1000)),
        'MAX_ITER': (config.train_cfg.max_iters, 14800),
        'CLIP_VALUE': (wrapper.clip_grad.max_norm, 1.0),
        'AMP_AND_CLIP_TYPE': (wrapper.type, 'cuts3d_mm.AmpPerParameterClipOptimWrapper'),
        'MIN_SIZE_TRAIN': ([side for _, side in scales], SHORT_SIDES),
        'MAX_SIZE_TRAIN': ({longest for longest, _ in scales}, {1333}),
        'PRECISE_BN': (HOOKS.build(precise_bn).num_iters, 200),
        'DETECTIONS_PER_IMAGE': (model.test_cfg.rcnn.max_per_img, 100),
    }
    assert {name: ours for name, (ours, _) in facts.items()} == {
        name: theirs for name, (_, theirs) in facts.items()
    }


def test_one_round_is_the_first_of_three():
    three = load('cuts3d_cascade-mask-rcnn_r50_fpn_8xb2-amp-400k_rounds.py')
    one = load('cuts3d_cascade-mask-rcnn_r50_fpn_8xb2-amp-240k_one-round.py')
    assert one.train_cfg.rounds == three.train_cfg.rounds[:1]
    assert one.train_cfg.max_iters == three.train_cfg.rounds[1].begin
    assert one.train_cfg.optim_wrapper == three.train_cfg.optim_wrapper


def test_the_round_without_confidence_pastes_hard_and_at_random_throughout():
    config = load('cuts3d_cascade-mask-rcnn_r50_fpn_8xb2-amp-240k_ablation-no-confidence.py')
    initial = config.train_dataloader.dataset.pipeline
    later = config.train_cfg.train_dataloader.dataset.pipeline
    for pipeline, scales in ((initial, (0.3, 1.0)), (later, (0.5, 1.0))):
        paste = pipeline[0]
        assert (paste.type, paste.alpha) == ('cuts3d_mm.AlphaBlendCopyPaste', False)
        assert paste.scale_range == scales
    assert config.model.roi_head.mask_head.confidence_source == 'none'
    assert config.train_cfg.max_iters == 240000


def test_zero_shot_training_of_cuvler():
    config = load('cuvler_cascade-mask-rcnn_r50_fpn_8xb2-amp-80k_imagenet.py')
    heads = config.model.roi_head.bbox_head
    assert {(head.confidence_source, head.drop_iou) for head in heads} == {('score', 0.01)}
    assert config.model.roi_head.mask_head.confidence_source == 'score'
    assert config.train_cfg.max_iters == 80000
    assert [one.type for one in config.param_scheduler] == ['LinearLR']  # the rate never falls
    paste = config.train_dataloader.dataset.pipeline[0]
    assert (paste.type, paste.alpha) == ('cuts3d_mm.AlphaBlendCopyPaste', False)


# CutLER's yaml files: percent of the labels -> rate, iterations, steps, factor of new layers
FINE_TUNING = {
    1: (0.04, 3600, [2400, 3200], 4),
    2: (0.04, 3600, [2400, 3200], 4),
    5: (0.04, 4500, [3000, 4000], 4),
    10: (0.04, 9000, [6000, 8000], 4),
    20: (0.04, 18000, [12000, 16000], 4),
    30: (0.04, 27000, [18000, 24000], 4),
    40: (0.04, 36000, [24000, 32000], 4),
    50: (0.02, 45000, [30000, 40000], 2),
    60: (0.02, 54000, [36000, 48000], 2),
    80: (0.02, 72000, [48000, 64000], 2),
    100: (0.02, 90000, [60000, 80000], 2),
}


@pytest.mark.parametrize('percent', FINE_TUNING)
def test_fine_tuning_on_a_share_has_the_schedule_of_cutler(percent, monkeypatch):
    monkeypatch.setenv('PERCENT', str(percent))
    config = load(SEMI)
    rate, iterations, steps, factor = FINE_TUNING[percent]
    optimizer = config.optim_wrapper.optimizer
    assert (optimizer.lr, optimizer.weight_decay) == (rate, 1e-4)
    assert config.train_cfg.max_iters == iterations
    assert config.param_scheduler[1].milestones == steps
    factors = config.optim_wrapper.paramwise_cfg.custom_keys
    assert {one.lr_mult for one in factors.values()} == {factor}
    share = '' if percent == 100 else f'{percent}perc_'
    ann_file = config.train_dataloader.dataset.ann_file
    assert ann_file == f'annotations/{share}instances_train2017.json'


def test_a_share_that_cutler_does_not_have_is_refused(monkeypatch):
    monkeypatch.setenv('PERCENT', '3')
    with pytest.raises(ValueError, match='PERCENT must be one of'):
        load(SEMI)


@pytest.mark.slow
def test_fine_tuning_keeps_all_but_the_class_layers_and_trains_on_human_labels(
    without_random_weights,
):
    config = load(SEMI)
    before = MODELS.build(dict(load(INITIAL).model, data_preprocessor=None)).state_dict()
    model = MODELS.build(config.model)
    after = model.state_dict()
    assert before.keys() == after.keys()
    replaced = {name for name in after if after[name].shape != before[name].shape}
    layers = [f'bbox_head.{stage}.fc_cls' for stage in range(3)] + ['mask_head.0.conv_logits']
    assert replaced == {f'roi_head.{one}.{kind}' for one in layers for kind in ('weight', 'bias')}
    assert config.optim_wrapper.type == 'OptimWrapper' and 'clip_grad' not in config.optim_wrapper
    assert [head.drop_iou for head in model.roi_head.bbox_head] == [None] * 3
    wrapper = build_optim_wrapper(model, config.optim_wrapper)
    rates = {round(group['lr'], 6) for group in wrapper.param_groups}
    assert rates == {0.04, 0.16}


def test_drop_loss_on_human_labels_is_refused_with_the_remedy():
    model = load(SEMI).model
    model.roi_head.bbox_head[1].drop_iou = 0.01
    with pytest.raises(ValueError, match='drop_iou must be None for labels of people'):
        MODELS.build(model)
