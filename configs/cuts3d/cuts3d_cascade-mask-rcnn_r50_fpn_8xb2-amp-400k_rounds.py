"""The initial round and three rounds of self-training in one training (paper, later version).

CutLER's thresholds are 0.7 and 0.65; the third is not published and taken as the second.
"""

_base_ = './cuts3d_cascade-mask-rcnn_r50_fpn_8xb2-amp-160k_imagenet.py'

train_cfg = dict(
    type='cuts3d_mm.SelfTrainingLoop',
    max_iters=400000,
    rounds=[
        dict(begin=160000, score_thr=0.7),
        dict(begin=240000, score_thr=0.65),
        dict(begin=320000, score_thr=0.65),
    ],
    optim_wrapper=dict(
        type='cuts3d_mm.AmpPerParameterClipOptimWrapper',
        optimizer=dict(type='SGD', lr=0.005, momentum=0.9, weight_decay=1e-4),
        clip_grad=dict(max_norm=1.0),
        paramwise_cfg=dict(norm_decay_mult=0.0),
    ),
    param_scheduler=[dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=1000)],
    train_dataloader=dict(
        dataset=dict(
            pipeline=[
                dict(type='cuts3d_mm.ConfidentCopyPaste', alpha=True, scale_range=(0.5, 1.0)),
                dict(type='PackDetInputs'),
            ]
        )
    ),
    model_train_cfg=dict(
        rpn_proposal=dict(max_per_img=1000, nms=dict(type='nms', iou_threshold=0.7))
    ),
)
