"""The tiny detector with two rounds of self-training: 600 steps, then 300 and 300.

The rule and the schedule of the rounds are those that measurement recommends, not CutLER's.
"""

_base_ = './cuts3d_tiny-cascade-mask-rcnn_r18_scenes.py'

initial_iters = 600
round_iters = 300
max_iters = initial_iters + 2 * round_iters

param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(type='MultiStepLR', by_epoch=False, end=initial_iters, milestones=[486], gamma=0.1),
]
train_cfg = dict(
    type='cuts3d_mm.SelfTrainingLoop',
    max_iters=max_iters,
    val_interval=round_iters,
    rounds=[
        dict(begin=initial_iters, score_thr='auto'),
        dict(begin=initial_iters + round_iters, score_thr='auto'),
    ],
    rule='old-labels-win',
    refine=True,
    min_score=0.2,
    optim_wrapper=dict(
        type='cuts3d_mm.PerParameterClipOptimWrapper',
        optimizer=dict(type='SGD', lr=0.005, momentum=0.9, weight_decay=1e-4),
        clip_grad=dict(max_norm=1.0),
        paramwise_cfg=dict(norm_decay_mult=0.0),
    ),
    param_scheduler=[
        dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=10),
        dict(type='MultiStepLR', by_epoch=False, end=round_iters, milestones=[180], gamma=0.1),
    ],
    train_dataloader=dict(
        dataset=dict(
            pipeline=[
                dict(type='cuts3d_mm.ConfidentCopyPaste', alpha=True, scale_range=(0.5, 1.0)),
                dict(type='PackDetInputs'),
            ]
        )
    ),
)
