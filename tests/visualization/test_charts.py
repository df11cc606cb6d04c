from __future__ import annotations

import pytest

from cuts3d_mm.visualization.charts import draw_training, format_scores, format_table


def test_table_is_aligned_markdown():
    assert format_table(['name', 'AP'], [['a', '1.00'], ['long name', '10.00']]).splitlines() == [
        '| name      |    AP |',
        '| --------- | ----: |',
        '| a         |  1.00 |',
        '| long name | 10.00 |',
    ]


def test_scores_are_printed_in_percent():
    assert '12.34' in format_scores({'segm': {'AP': 0.12341}})


def test_losses_of_a_training_are_drawn_part_by_part_up_to_their_sum():
    parts = {'loss_rpn_cls': 0.5, 's0.loss_cls': 0.2, 's1.loss_cls': 0.1, 's0.loss_mask': 0.7}
    log = [
        *({'step': step, 'loss': sum(parts.values()), **parts} for step in (1, 2)),
        {'step': 2, 'coco/segm_mAP_50': 0.2},
    ]
    losses, scores = draw_training(log).axes
    tops = [float(area.get_paths()[0].vertices[:, 1].max()) for area in losses.collections]
    assert tops == pytest.approx([0.5, 0.8, 0.8, 1.5])
    assert float(scores.lines[0].get_ydata()[0]) == 20 and scores.get_ylim()[1] > 20


def test_a_score_of_nearly_nothing_looks_like_nothing():
    _, scores = draw_training([{'step': 2, 'coco/segm_mAP_50': 0.0008}]).axes
    assert scores.get_ylim() == (0, 10)


def test_a_training_too_short_to_log_a_loss_is_drawn():
    assert len(draw_training([{'step': 2, 'coco/segm_mAP_50': 0.2}]).axes) == 2
