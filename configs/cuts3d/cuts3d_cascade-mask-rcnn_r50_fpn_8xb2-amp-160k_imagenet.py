"""The initial round: CutS3D's pseudo-labels and all of its use of Spatial Confidence."""

_base_ = [
    '../_base_/models/cascade-mask-rcnn_r50_fpn_cutler.py',
    '../_base_/datasets/pseudo_labels_imagenet.py',
    '../_base_/datasets/coco_class_agnostic.py',
    '../_base_/schedules/cutler_initial_160k.py',
    '../_base_/default_runtime.py',
]
