"""What a person sees of a training."""

from __future__ import annotations

import pytest

from cuts3d_mm.learning.training import shorten_line

LOG = '2026/01/02 03:04:05 - mmengine - INFO - '


@pytest.mark.parametrize(
    ('line', 'short'),
    [
        (
            f'{LOG}Iter(train) [  10/7000]  base_lr: 1e-4 lr: 1e-4  eta: 0:00:05  time: 0.9  '
            'loss: 4.5750  loss_rpn_cls: 0.69',
            'step 10 of 7000: loss 4.58, 0:00:05 left',
        ),
        (
            f'{LOG}Iter(val) [1/1]    coco/bbox_mAP_50: 0.2  coco/segm_mAP_50: 0.0721  time: 0.1',
            'mask AP50 on held-out images: 7.21 %',
        ),
        (f'{LOG}Iter(val) [1/2]    eta: 0:00:00  time: 0.1490', None),
        (f'{LOG}Round 1: labelling the training images', 'Round 1: labelling the training images'),
        ('resume from work/iter_2.pth', 'resume from work/iter_2.pth'),
        ('Could not import OneDL', None),
    ],
)
def test_lines_about_steps_scores_and_rounds_are_kept_short(line, short):
    assert shorten_line(line) == short
