"""The whole method in MMDetection's own Cascade Mask R-CNN, by naming our parts."""

_base_ = 'mmdet::cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco.py'
# Before mmdet asks mmcv for operators: ours stand in for those that are not compiled.
custom_imports = dict(imports=['cuts3d_mm'], allow_failed_imports=False)

dino_resnet50 = (  # learned without labels; the base begins with ImageNet's labels
    'https://dl.fbaipublicfiles.com/dino/dino_resnet50_pretrain/dino_resnet50_pretrain.pth'
)
heads = [
    dict(
        type='cuts3d_mm.DropLossBBoxHead',
        in_channels=256,
        num_classes=1,
        reg_class_agnostic=True,
        bbox_coder=dict(
            type='DeltaXYWHBBoxCoder',
            target_means=[0.0] * 4,
            target_stds=[1 / scale, 1 / scale, 2 / scale, 2 / scale],
        ),
        loss_cls=dict(type='CrossEntropyLoss', loss_weight=1.0),
        loss_bbox=dict(type='SmoothL1Loss', beta=1.0, loss_weight=1.0),
    )
    for scale in (10, 20, 30)
]
stages = [
    dict(
        assigner=dict(type='MaxIoUAssigner', pos_iou_thr=iou, neg_iou_thr=iou, min_pos_iou=iou),
        sampler=dict(type='cuts3d_mm.PseudoLabelSampler', num=512, pos_fraction=0.25),
        mask_size=28,
        pos_weight=-1,
    )
    for iou in (0.5, 0.6, 0.7)
]
loss = dict(type='cuts3d_mm.SCSoftTargetMaskLoss', _delete_=True)
model = dict(
    backbone=dict(init_cfg=dict(checkpoint=dino_resnet50)),
    roi_head=dict(
        bbox_head=heads,
        mask_head=dict(type='cuts3d_mm.SCMaskHead', num_classes=1, loss_mask=loss),
    ),
    train_cfg=dict(rcnn=stages),
)
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='cuts3d_mm.MixedImagesDataset',
        dataset=dict(
            type='cuts3d_mm.PseudoLabelDataset',
            ann_file='data/pseudo_labels/imagenet_train',
            data_prefix=dict(img='data/imagenet/train'),
            filter_cfg=dict(filter_empty_gt=True, min_size=32),
            pipeline=[
                dict(type='LoadImageFromFile', color_type='color_ignore_orientation'),
                dict(type='cuts3d_mm.LoadPseudoLabels'),
                dict(type='Resize', scale=(1333, 800), keep_ratio=True),
                dict(type='RandomFlip', prob=0.5),
            ],
        ),
        pipeline=[dict(type='cuts3d_mm.ConfidentCopyPaste'), dict(type='PackDetInputs')],
    )
)
val_dataloader = dict(dataset=dict(type='cuts3d_mm.ClassAgnosticCocoDataset'))
test_dataloader = val_dataloader
val_evaluator = dict(type='cuts3d_mm.ClassAgnosticCocoMetric')
test_evaluator = val_evaluator
