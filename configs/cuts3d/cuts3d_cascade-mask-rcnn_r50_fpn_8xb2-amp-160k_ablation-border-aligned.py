"""Table 5d: confidence aligned to the border of the refined mask."""

_base_ = 'cuts3d_cascade-mask-rcnn_r50_fpn_8xb2-amp-160k_imagenet.py'

load_pipeline = [
    dict(type='LoadImageFromFile', color_type='color_ignore_orientation'),
    dict(type='cuts3d_mm.LoadPseudoLabels', align_to_mask=True),
    dict(
        type='RandomChoiceResize',
        scales=[(1333, side) for side in (240, 320, 480, 640, 672, 704, 736, 768, 800, 1024)],
        keep_ratio=True,
    ),
    dict(type='RandomFlip', prob=0.5),
]
train_dataloader = dict(dataset=dict(dataset=dict(pipeline=load_pipeline)))
