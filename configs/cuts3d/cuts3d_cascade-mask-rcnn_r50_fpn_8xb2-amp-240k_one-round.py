"""The initial round and a round of self-training in one training (Tables 1, 2, 4 and 6)."""

_base_ = './cuts3d_cascade-mask-rcnn_r50_fpn_8xb2-amp-400k_rounds.py'

train_cfg = dict(max_iters=240000, rounds=_base_.train_cfg.rounds[:1])
