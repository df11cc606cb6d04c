"""Table 4: trained on the 2D baseline, MaskCut; no confidence exists."""

_base_ = 'cuts3d_cascade-mask-rcnn_r50_fpn_8xb2-amp-160k_ablation-no-confidence.py'

train_labels = 'data/pseudo_labels/imagenet_train_maskcut'
train_dataloader = dict(dataset=dict(dataset=dict(ann_file=train_labels)))
