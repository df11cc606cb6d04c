"""Rounds as `cuts3d learn` trains them: by the rule and schedule that measurement recommends."""

_base_ = './cuts3d_cascade-mask-rcnn_r50_fpn_8xb2-amp-400k_rounds.py'

assigner = dict(type='cuts3d_mm.PseudoLabelAssigner')  # labels that are not selected
model = dict(
    train_cfg=dict(
        rpn=dict(assigner=assigner),
        rcnn=[
            dict(stage, assigner={**stage.assigner, **assigner})
            for stage in _base_.model.train_cfg.rcnn
        ],
    )
)
train_cfg = dict(
    rounds=[dict(begin=begin, score_thr='auto') for begin in (160000, 240000, 320000)],
    rule='old-labels-win',
    refine=True,
    min_score=0.2,
    param_scheduler=[
        dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=1000),
        dict(type='MultiStepLR', by_epoch=False, end=80000, milestones=[48000], gamma=0.1),
    ],
)
