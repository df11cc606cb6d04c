"""CutLER's second detector, a plain Mask R-CNN, and where its converted checkpoints go.

CutLER trains it without mixed precision, and its rate falls to a tenth.

cuts3d convert detectron2 cutler_mrcnn_final.pth cutler_mask-rcnn.pth
"""

_base_ = './cuts3d_cascade-mask-rcnn_r50_fpn_8xb2-amp-160k_imagenet.py'
cascade = _base_.model.roi_head
model = dict(
    type='MaskRCNN',
    roi_head=dict(
        _delete_=True,
        type='StandardRoIHead',
        bbox_roi_extractor=cascade.bbox_roi_extractor,
        bbox_head=cascade.bbox_head[0],
        mask_roi_extractor=cascade.mask_roi_extractor,
        mask_head=cascade.mask_head,
    ),
    train_cfg=dict(rcnn=dict(_delete_=True, **_base_.model.train_cfg.rcnn[0])),
)
optim_wrapper = dict(type='cuts3d_mm.PerParameterClipOptimWrapper')
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=1000),
    dict(type='MultiStepLR', by_epoch=False, begin=0, end=160000, milestones=[80000], gamma=0.1),
]
del cascade
