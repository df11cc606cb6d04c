from __future__ import annotations

import numpy as np
from drawn import disc

from cuts3d_mm.algorithm.cut_instances import Instance
from cuts3d_mm.algorithm.cut_patches import PatchCut
from cuts3d_mm.visualization.overlays import draw_instances
from cuts3d_mm.visualization.stages import Stages, draw_stages
from cuts3d_mm.visualization.tables import format_scores, format_table

HW = (40, 70)
IMAGE = np.full((*HW, 3), 90, np.uint8)


def instance():
    mask, patch = disc((20, 30), 9, HW), disc((3, 4), 2, (6, 10))
    values = patch.astype(np.float32)
    cut = PatchCut(values.astype(float), patch, patch, values, 0.1, 0.2)
    return Instance(mask, values, 0.8, cut)


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


def test_figure_has_a_row_per_instance():
    stages = Stages(IMAGE, np.zeros((6, 10)), np.ones((6, 10)), (instance(), instance()))
    assert len(draw_stages(stages, 'title').axes) == 16


def test_figure_of_a_2d_recipe_without_instances_is_drawn():
    assert len(draw_stages(Stages(IMAGE, None, None, ())).axes) == 8


def test_table_is_aligned_markdown():
    assert format_table(['name', 'AP'], [['a', '1.00'], ['long name', '10.00']]).splitlines() == [
        '| name      |    AP |',
        '| --------- | ----: |',
        '| a         |  1.00 |',
        '| long name | 10.00 |',
    ]


def test_scores_are_printed_in_percent():
    assert '12.34' in format_scores({'segm': {'AP': 0.12341}})
