"""The tiny detector with two rounds of self-training: 160 steps, then 80 and 80."""

_base_ = './cuts3d_tiny-cascade-mask-rcnn_r18_scenes.py'

initial_iters = 160
round_iters = 80
max_iters = initial_iters + 2 * round_iters

param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(type='MultiStepLR', by_epoch=False, end=initial_iters, milestones=[130], gamma=0.1),
]
train_cfg = dict(
    type='cuts3d_mm.SelfTrainingLoop',
    max_iters=max_iters,
    val_interval=round_iters,
    rounds=[
        dict(begin=initial_iters, score_thr=0.7),
        dict(begin=initial_iters + round_iters, score_thr=0.65),
    ],
    optim_wrapper=dict(
        type='cuts3d_mm.PerParameterClipOptimWrapper',
        optimizer=dict(type='SGD', lr=0.005, momentum=0.9, weight_decay=1e-4),
        clip_grad=dict(max_norm=1.0),
        paramwise_cfg=dict(norm_decay_mult=0.0),
    ),
    param_scheduler=[dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=10)],
    train_dataloader=dict(
        dataset=dict(
            pipeline=[
                dict(type='cuts3d_mm.ConfidentCopyPaste', alpha=True, scale_range=(0.5, 1.0)),
                dict(type='PackDetInputs'),
            ]
        )
    ),
)
