r"""A self-training round: labels by the detector of the round before, no DropLoss.

    cuts3d train THIS --cfg-options load_from=ROUND0.pth \
        train_dataloader.dataset.dataset.ann_file=LABELS_OF_ROUND1
"""

_base_ = [
    '../_base_/models/cascade-mask-rcnn_r50_fpn_cutler.py',
    '../_base_/datasets/pseudo_labels_imagenet.py',
    '../_base_/datasets/coco_class_agnostic.py',
    '../_base_/schedules/cutler_self-training_80k.py',
    '../_base_/default_runtime.py',
]

model = dict(
    roi_head=dict(
        bbox_head=[dict(head, drop_iou=None) for head in _base_.model.roi_head.bbox_head]
    ),
    train_cfg=dict(rpn_proposal=dict(max_per_img=1000, nms=dict(type='nms', iou_threshold=0.7))),
)
mix_pipeline = [
    dict(type='cuts3d_mm.ConfidentCopyPaste', alpha=True, scale_range=(0.5, 1.0)),
    dict(type='PackDetInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=mix_pipeline))
