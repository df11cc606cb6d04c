"""The method small enough for two CPU cores: a narrow ResNet-18, 208 px, from scratch."""

_base_ = [
    '../_base_/models/cascade-mask-rcnn_r50_fpn_cutler.py',
    '../_base_/default_runtime.py',
]

data_root = 'demo_out/training/'
norm_cfg = dict(type='BN', requires_grad=True)
assigner = dict(type='cuts3d_mm.PseudoLabelAssigner')  # labels that are not selected
width, channels = 24, 32  # backbone (first stage), neck and heads

model = dict(
    backbone=dict(depth=18, base_channels=width, norm_cfg=norm_cfg, init_cfg=None),
    neck=dict(
        in_channels=[width, 2 * width, 4 * width, 8 * width],
        out_channels=channels,
        norm_cfg=norm_cfg,
    ),
    rpn_head=dict(in_channels=channels, feat_channels=channels),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=channels),
        bbox_head=[
            dict(head, in_channels=channels, fc_out_channels=128)
            for head in _base_.model.roi_head.bbox_head
        ],
        mask_roi_extractor=dict(out_channels=channels),
        mask_head=dict(num_convs=2, in_channels=channels, conv_out_channels=channels),
    ),
    train_cfg=dict(
        rpn=dict(assigner=assigner, sampler=dict(num=128)),
        rpn_proposal=dict(nms_pre=200, max_per_img=200),
        rcnn=[
            dict(
                stage,
                assigner={**stage.assigner, **assigner},
                sampler=dict(stage.sampler, num=64) if 'num' in stage.sampler else stage.sampler,
            )
            for stage in _base_.model.train_cfg.rcnn
        ],
    ),
    test_cfg=dict(rpn=dict(nms_pre=100, max_per_img=100), rcnn=dict(max_per_img=30)),
)

load_pipeline = [
    dict(type='LoadImageFromFile', color_type='color_ignore_orientation'),
    dict(type='cuts3d_mm.LoadPseudoLabels', confidence_source='map'),
    dict(type='RandomChoiceResize', scales=[(192, 144), (208, 160), (240, 176)], keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
]
mix_pipeline = [
    dict(type='cuts3d_mm.ConfidentCopyPaste', alpha=True, scale_range=(0.3, 1.0)),
    dict(type='PackDetInputs'),
]
train_dataloader = dict(
    batch_size=2,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='cuts3d_mm.SeededInfiniteSampler', shuffle=True),
    dataset=dict(
        type='cuts3d_mm.MixedImagesDataset',
        dataset=dict(
            type='cuts3d_mm.PseudoLabelDataset',
            data_root=data_root,
            ann_file='labels',
            data_prefix=dict(img='images'),
            filter_cfg=dict(filter_empty_gt=True),
            pipeline=load_pipeline,
        ),
        pipeline=mix_pipeline,
    ),
)
test_pipeline = [
    dict(type='LoadImageFromFile', color_type='color_ignore_orientation'),
    dict(type='Resize', scale=(208, 160), keep_ratio=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]
val_dataloader = dict(
    batch_size=4,
    num_workers=1,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='cuts3d_mm.ClassAgnosticCocoDataset',
        data_root=data_root,
        ann_file='held_out/instances.json',
        data_prefix=dict(img='held_out/images'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(
    type='cuts3d_mm.ClassAgnosticCocoMetric',
    ann_file=data_root + 'held_out/instances.json',
    metric=['bbox', 'segm'],
)
test_evaluator = val_evaluator

schedule_images = 96  # number of images for which the steps are chosen
max_iters = 300
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=100)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='cuts3d_mm.PerParameterClipOptimWrapper',
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=5e-5),
    clip_grad=dict(max_norm=1.0),
    paramwise_cfg=dict(norm_decay_mult=0.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(
        type='MultiStepLR',
        by_epoch=False,
        begin=0,
        end=max_iters,
        milestones=[243],
        gamma=0.1,
    ),
]
auto_scale_lr = dict(enable=False, base_batch_size=2)
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=100, max_keep_ckpts=2))
custom_hooks = [
    dict(type='cuts3d_mm.IterationSeedHook'),
    dict(type='cuts3d_mm.PreciseBNHook', num_iters=20),
]
log_processor = dict(window_size=10)
randomness = dict(seed=0, deterministic=True)
env_cfg = dict(dist_cfg=dict(backend='gloo'))
