r"""In-domain self-training (paper 4.3) on any images, here COCO train2017.

What the paper does not state is as in CuVLER: predictions from score 0.2 on, no merging, their
score as soft target, all instances pasted, learning rate 0.05 for 14,800 steps, detectron2's
weight decay of 1e-4, DropLoss on.

    cuts3d predict cuts3d_cascade-mask-rcnn_r50_fpn_8xb2-amp-160k_imagenet.py ZERO_SHOT.pth \
        data/coco/train2017 data/pseudo_labels/coco_train2017 --score-thr 0.2
    cuts3d train THIS --cfg-options load_from=ZERO_SHOT.pth
"""

_base_ = './cuts3d_cascade-mask-rcnn_r50_fpn_8xb2-amp-160k_imagenet.py'

model = dict(
    roi_head=dict(
        bbox_head=[
            dict(head, confidence_source='score') for head in _base_.model.roi_head.bbox_head
        ],
        mask_head=dict(confidence_source='score'),
    ),
    train_cfg=dict(rpn_proposal=dict(max_per_img=1000, nms=dict(type='nms', iou_threshold=0.7))),
)
# Scores of a detector are soft targets as they are, whatever confidence comes with them.
load_pipeline = [
    dict(step, min_confidence=0.0) if step.type == 'cuts3d_mm.LoadPseudoLabels' else step
    for step in _base_.load_pipeline
]
train_dataloader = dict(
    dataset=dict(
        dataset=dict(
            ann_file='data/pseudo_labels/coco_train2017',
            data_prefix=dict(img='data/coco/train2017'),
            pipeline=load_pipeline,
        ),
        pipeline=[
            dict(type='cuts3d_mm.ConfidentCopyPaste', paste_all=True, scale_range=(0.5, 1.0)),
            dict(type='PackDetInputs'),
        ],
    )
)
train_cfg = dict(max_iters=14800, val_interval=7400)
optim_wrapper = dict(optimizer=dict(lr=0.05, weight_decay=1e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=1000),
    dict(type='MultiStepLR', by_epoch=False, begin=0, end=14800, milestones=[7400], gamma=0.02),
]
