r"""Fine-tuning on a share of COCO's labels, 80 classes, as CutLER's yaml files for 1 to 100 %.

PERCENT is 1, 2, 5, 10, 20, 30, 40, 50, 60, 80 or 100. The class layers are new, the rest comes
from a detector trained without labels. Human labels miss no objects: no DropLoss.

    cuts3d prepare coco-semi data/coco data/coco/annotations
    PERCENT=10 cuts3d train THIS --cfg-options load_from=ZERO_SHOT.pth
"""

_base_ = [
    '../_base_/models/cascade-mask-rcnn_r50_fpn_cutler.py',
    '../_base_/datasets/coco_class_agnostic.py',
    '../_base_/default_runtime.py',
]

percent = int('{{$PERCENT:10}}')
if percent not in (1, 2, 5, 10, 20, 30, 40, 50, 60, 80, 100):
    raise ValueError(f'PERCENT must be one of those that the config names, got {percent}')
max_iters = {1: 3600, 2: 3600, 5: 4500}.get(percent, 900 * percent)
share = '' if percent == 100 else f'{percent}perc_'
is_small = percent <= 40
num_classes = 80

nms = dict(type='nms', iou_threshold=0.7)
model = dict(
    backbone=dict(init_cfg=None),  # load_from has the weights
    roi_head=dict(
        bbox_head=[
            dict(head, num_classes=num_classes, drop_iou=None)
            for head in _base_.model.roi_head.bbox_head
        ],
        mask_head=dict(num_classes=num_classes, confidence_source='none'),
    ),
    train_cfg=dict(rpn_proposal=dict(max_per_img=2000, nms=nms)),
    test_cfg=dict(rpn=dict(nms=nms), rcnn=dict(score_thr=0.05)),
)

coco_root = 'data/coco/'
train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='CocoDataset',
        data_root=coco_root,
        ann_file=f'annotations/{share}instances_train2017.json',
        data_prefix=dict(img='train2017/'),
        filter_cfg=dict(filter_empty_gt=True, min_size=32),
        pipeline=[
            dict(type='LoadImageFromFile', color_type='color_ignore_orientation'),
            dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
            dict(
                type='RandomChoiceResize',
                scales=[(1333, side) for side in (640, 672, 704, 736, 768, 800)],
                keep_ratio=True,
            ),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackDetInputs'),
        ],
    ),
)
val_dataloader = dict(dataset=dict(type='CocoDataset'))
test_dataloader = val_dataloader
val_evaluator = dict(type='CocoMetric')
test_evaluator = val_evaluator

train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=5000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
new_layers = dict(lr_mult=4 if is_small else 2)
optim_wrapper = dict(
    type='OptimWrapper',  # no clipping, no mixed precision
    optimizer=dict(type='SGD', lr=0.04 if is_small else 0.02, momentum=0.9, weight_decay=1e-4),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        custom_keys=dict(fc_cls=new_layers, fc_reg=new_layers, conv_logits=new_layers),
    ),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=1000),
    dict(
        type='MultiStepLR',
        by_epoch=False,
        begin=0,
        end=max_iters,
        milestones=[max_iters * 2 // 3, max_iters * 8 // 9],
        gamma=0.1,
    ),
]
auto_scale_lr = dict(enable=False, base_batch_size=16)
