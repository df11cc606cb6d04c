from __future__ import annotations

import numpy as np
import pytest
from helpers.drawn import disc

from cuts3d_mm.visualization.charts import draw_training, format_scores, format_table
from cuts3d_mm.visualization.overlays import draw_instances, draw_sample
from cuts3d_mm.visualization.pictures import picture_name

HW = (40, 70)
IMAGE = np.full((*HW, 3), 90, np.uint8)


def test_instances_are_tinted_and_the_image_is_left_alone():
    mask = disc((20, 30), 9, HW)
    drawn = draw_instances(IMAGE, [mask], [0.5])
    assert (IMAGE == 90).all()
    assert (drawn[mask] != 90).any(axis=1).mean() > 0.9
    assert (drawn[0, 0] == 90).all()


def test_read_only_images_can_be_drawn():
    image = IMAGE.copy()
    image.setflags(write=False)
    assert draw_instances(image, [disc((20, 30), 9, HW)]).shape == (*HW, 3)


def test_pictures_keep_their_names_and_those_of_other_formats_get_a_suffix():
    assert [picture_name(n) for n in ('a/x.jpg', 'x.PNG', 'x.webp', 'x')] == [
        'a/x.jpg', 'x.PNG', 'x.webp.jpg', 'x.jpg'
    ]  # fmt: skip


def test_table_is_aligned_markdown():
    assert format_table(['name', 'AP'], [['a', '1.00'], ['long name', '10.00']]).splitlines() == [
        '| name      |    AP |',
        '| --------- | ----: |',
        '| a         |  1.00 |',
        '| long name | 10.00 |',
    ]


def test_scores_are_printed_in_percent():
    assert '12.34' in format_scores({'segm': {'AP': 0.12341}})


def test_sample_shows_pasted_instances_in_red_and_others_in_green():
    image = np.full((30, 40, 3), 100, np.uint8)
    masks = np.stack([disc((15, 10), 6, (30, 40)), disc((15, 30), 6, (30, 40))])
    boxes = np.array([[4, 9, 17, 22], [24, 9, 37, 22]], np.float32)
    doubt = np.stack([np.full((30, 40), 0, np.uint8), np.full((30, 40), 195, np.uint8)])
    drawn = draw_sample(image, boxes, masks, doubt, np.array([False, True]))
    assert drawn.shape == (30, 80, 3)
    assert drawn[15, 4].argmax() == 1 and drawn[15, 24].argmax() == 0
    assert drawn[15, 40 + 10].sum() > drawn[15, 40 + 30].sum()


def test_losses_of_a_training_are_drawn_part_by_part_up_to_their_sum():
    parts = {'loss_rpn_cls': 0.5, 's0.loss_cls': 0.2, 's1.loss_cls': 0.1, 's0.loss_mask': 0.7}
    log = [
        *({'step': step, 'loss': sum(parts.values()), **parts} for step in (1, 2)),
        {'step': 2, 'coco/segm_mAP_50': 0.2},
    ]
    losses, scores = draw_training(log).axes
    tops = [float(area.get_paths()[0].vertices[:, 1].max()) for area in losses.collections]
    assert tops == pytest.approx([0.5, 0.8, 0.8, 1.5])
    assert float(scores.lines[0].get_ydata()[0]) == 20


def test_a_training_too_short_to_log_a_loss_is_drawn():
    assert len(draw_training([{'step': 2, 'coco/segm_mAP_50': 0.2}]).axes) == 2
