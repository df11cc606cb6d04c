from __future__ import annotations

import numpy as np
import pytest
from helpers.drawn import disc

from cuts3d_mm.algorithm.cut_instances import ImageCuts, Instance, RejectedCut
from cuts3d_mm.visualization.figures import draw_recipes, draw_stages

HW, GRID_HW = (40, 70), (6, 10)
IMAGE = np.full((*HW, 3), 90, np.uint8)
DEPTH = np.linspace(0, 1, 60, dtype=np.float32).reshape(GRID_HW)
REJECTED = RejectedCut(DEPTH > 0.9, 'too small', DEPTH)


def instance(center_yx):
    mask = disc((center_yx[0] * 7, center_yx[1] * 7), 9, HW)
    patch = disc(center_yx, 2, GRID_HW)
    values = patch.astype(np.float32)
    return Instance(mask, values, 0.8, patch, patch, values.astype(float), 0.1, 0.2)


def cuts(depth, importance, instances, rejected=()):
    return ImageCuts(GRID_HW, depth, importance, instances=instances, rejected=rejected)


TWO = (instance((3, 2)), instance((3, 7)))


def covered(figure):
    """Share of the figure that panels take up, without overlap."""
    boxes = [axes.get_position() for axes in figure.axes]
    for index, first in enumerate(boxes):
        for second in boxes[index + 1 :]:
            wide = min(first.x1, second.x1) - max(first.x0, second.x0)
            high = min(first.y1, second.y1) - max(first.y0, second.y0)
            assert wide < 1e-6 or high < 1e-6, 'panels overlap'
        assert -1e-6 < min(first.x0, first.y0) and max(first.x1, first.y1) < 1 + 1e-6
    return sum(box.width * box.height for box in boxes)


@pytest.mark.slow
@pytest.mark.parametrize(
    ('depth', 'importance', 'instances', 'rejected'),
    [
        (DEPTH, DEPTH, TWO, ()),
        (DEPTH, DEPTH, TWO, (REJECTED,) * 3),
        (DEPTH, None, TWO, ()),
        (None, None, TWO, (REJECTED,)),
        (DEPTH, DEPTH, (), ()),
        (None, None, (), ()),
    ],
)
def test_no_area_of_the_figure_is_empty(depth, importance, instances, rejected):
    figure = draw_stages(IMAGE, cuts(depth, importance, instances, rejected))
    assert covered(figure) > 0.7  # the rest are titles and gaps
    assert all(axes.images or axes.collections or axes.texts for axes in figure.axes)


def texts_of(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_a_rejected_cut_is_shown_with_its_reason():
    figure = draw_stages(IMAGE, cuts(DEPTH, DEPTH, TWO, (REJECTED,)))
    titles = [axes.get_title(loc='left') for axes in figure.axes]
    assert {'2 found, 1 rejected', 'rejected a: eigenvector', 'rejected a'} <= set(titles)
    assert texts_of(figure) == ['a: too small']


def test_an_image_with_many_rejected_cuts_stays_one_page():
    few, many = (
        draw_stages(IMAGE, cuts(DEPTH, DEPTH, TWO, (REJECTED,) * count)) for count in (1, 21)
    )
    assert few.get_figheight() == many.get_figheight()
    assert texts_of(many)[0].endswith('c: too small\nand 18 more')


def test_recipes_stand_next_to_each_other_under_titles_that_wrap():
    options = 'name.png: config ' + 'model.recipe.local_cut.depth_step=0.05 ' * 9
    many = cuts(DEPTH, DEPTH, TWO, (REJECTED,) * 3)
    figure = draw_recipes(IMAGE, [(options, many), ('other', cuts(None, None, TWO))])
    left, right = figure.subfigs
    assert '\n' in left.get_suptitle() and right.get_suptitle() == 'other'
    assert covered(left) > 0.6 and len(right.axes) == 2 + 4 * len(TWO)


def test_the_cloud_shows_near_points_over_far_ones_in_the_colours_of_their_instances():
    figure = draw_stages(IMAGE, cuts(DEPTH, DEPTH, TWO))
    (cloud,) = (collection for axes in figure.axes for collection in axes.collections)
    colors = {tuple(color[:3].round(3)) for color in cloud.get_facecolors()}
    assert len(cloud.get_offsets()) == DEPTH.size and len(colors) == 3
