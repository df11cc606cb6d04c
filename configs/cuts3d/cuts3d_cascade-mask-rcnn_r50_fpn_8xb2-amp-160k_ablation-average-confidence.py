"""Table 5b: blended by the average confidence of an instance, not its map; stock mask loss."""

_base_ = 'cuts3d_cascade-mask-rcnn_r50_fpn_8xb2-amp-160k_imagenet.py'

model = dict(roi_head=dict(mask_head=dict(confidence_source='none')))
load_pipeline = [
    dict(step, confidence_source='score') if step.type == 'cuts3d_mm.LoadPseudoLabels' else step
    for step in _base_.load_pipeline
]
train_dataloader = dict(dataset=dict(dataset=dict(pipeline=load_pipeline)))
