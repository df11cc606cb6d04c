# ImageNet's training images with pseudo-labels by `cuts3d generate`. For others:
#   --cfg-options train_dataloader.dataset.dataset.ann_file=LABELS
#                 train_dataloader.dataset.dataset.data_prefix.img=IMAGES
train_labels = 'data/pseudo_labels/imagenet_train'
train_images = 'data/imagenet/train'
short_sides = (240, 320, 480, 640, 672, 704, 736, 768, 800, 1024)
longest_side = 1333

load_pipeline = [
    # Labels are in the pixel grid of the stored image, so that EXIF rotation is not applied.
    dict(type='LoadImageFromFile', color_type='color_ignore_orientation'),
    dict(type='cuts3d_mm.LoadPseudoLabels', confidence_source='map', min_confidence=0.5),
    dict(
        type='RandomChoiceResize',
        scales=[(longest_side, side) for side in short_sides],
        keep_ratio=True,
    ),
    dict(type='RandomFlip', prob=0.5),
]
mix_pipeline = [
    dict(type='cuts3d_mm.ConfidentCopyPaste', alpha=True, scale_range=(0.3, 1.0)),
    dict(type='PackDetInputs'),
]
train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='cuts3d_mm.SeededInfiniteSampler', shuffle=True),
    batch_sampler=None,
    dataset=dict(
        type='cuts3d_mm.MixedImagesDataset',
        dataset=dict(
            type='cuts3d_mm.PseudoLabelDataset',
            ann_file=train_labels,
            data_prefix=dict(img=train_images),
            filter_cfg=dict(filter_empty_gt=True, min_size=32),
            pipeline=load_pipeline,
        ),
        pipeline=mix_pipeline,
    ),
)
