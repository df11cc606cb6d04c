r"""CuVLER's zero-shot training: 80,000 steps on VoteCut's labels, whose scores are soft targets.

What differs from CutLER's first round: half of the steps, so that the rate never falls, and the
score of a label as target of class, box and mask loss. DropLoss is on, copy-paste is random and
hard.

    cuts3d convert labels votecut_annotations_imagenet_train.json \
        data/pseudo_labels/imagenet_train_votecut
    cuts3d train THIS
"""

_base_ = './cuts3d_cascade-mask-rcnn_r50_fpn_8xb2-amp-160k_ablation-no-confidence.py'

model = dict(
    roi_head=dict(
        bbox_head=[
            dict(head, confidence_source='score') for head in _base_.model.roi_head.bbox_head
        ],
        mask_head=dict(confidence_source='score'),
    )
)
train_dataloader = dict(
    dataset=dict(dataset=dict(ann_file='data/pseudo_labels/imagenet_train_votecut'))
)
train_cfg = dict(max_iters=80000)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=1000),
]
