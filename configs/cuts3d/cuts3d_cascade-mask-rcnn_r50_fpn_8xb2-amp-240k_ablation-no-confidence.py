"""One round of self-training without Spatial Confidence, as CutLER trains (Table 4).

Copy-paste is random and hard and the mask loss is the stock one, in both rounds.
"""

_base_ = './cuts3d_cascade-mask-rcnn_r50_fpn_8xb2-amp-240k_one-round.py'

model = dict(roi_head=dict(mask_head=dict(confidence_source='none')))
mix_pipeline = [
    dict(type='cuts3d_mm.AlphaBlendCopyPaste', alpha=False, scale_range=(0.3, 1.0)),
    dict(type='PackDetInputs'),
]
round_mix_pipeline = [
    dict(type='cuts3d_mm.AlphaBlendCopyPaste', alpha=False, scale_range=(0.5, 1.0)),
    dict(type='PackDetInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=mix_pipeline))
train_cfg = dict(train_dataloader=dict(dataset=dict(pipeline=round_mix_pipeline)))
