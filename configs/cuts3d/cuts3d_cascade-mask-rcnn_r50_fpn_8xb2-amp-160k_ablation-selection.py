"""Table 7, second row: copy-paste selects by confidence, which has no other use."""

_base_ = 'cuts3d_cascade-mask-rcnn_r50_fpn_8xb2-amp-160k_imagenet.py'

model = dict(roi_head=dict(mask_head=dict(confidence_source='none')))
mix_pipeline = [
    dict(type='cuts3d_mm.ConfidentCopyPaste', alpha=False, scale_range=(0.3, 1.0)),
    dict(type='PackDetInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=mix_pipeline))
