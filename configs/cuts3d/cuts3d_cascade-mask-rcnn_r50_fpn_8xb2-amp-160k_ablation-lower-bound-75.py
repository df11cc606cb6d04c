"""Table 5c: a lower bound of 0.75 for the confidence; `min_confidence` sets other bounds."""

_base_ = 'cuts3d_cascade-mask-rcnn_r50_fpn_8xb2-amp-160k_imagenet.py'

load_pipeline = [
    dict(step, min_confidence=0.75) if step.type == 'cuts3d_mm.LoadPseudoLabels' else step
    for step in _base_.load_pipeline
]
train_dataloader = dict(dataset=dict(dataset=dict(pipeline=load_pipeline)))
