"""Table 5d: confidence aligned to the border of the refined mask."""

_base_ = 'cuts3d_cascade-mask-rcnn_r50_fpn_8xb2-amp-160k_imagenet.py'

load_pipeline = [
    dict(step, align_to_mask=True) if step.type == 'cuts3d_mm.LoadPseudoLabels' else step
    for step in _base_.load_pipeline
]
train_dataloader = dict(dataset=dict(dataset=dict(pipeline=load_pipeline)))
