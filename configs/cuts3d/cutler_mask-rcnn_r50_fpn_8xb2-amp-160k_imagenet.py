"""CutLER's second detector, a plain Mask R-CNN, and where its converted checkpoints go.

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
del cascade
