"""Table 7, third row: selection and alpha-blending; the stock mask loss."""

_base_ = 'cuts3d_cascade-mask-rcnn_r50_fpn_8xb2-amp-160k_imagenet.py'

model = dict(roi_head=dict(mask_head=dict(confidence_source='none')))
