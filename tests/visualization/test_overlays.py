from __future__ import annotations

import numpy as np
import pytest
from helpers.drawn import disc

from cuts3d_mm.visualization.overlays import draw_instances, instance_color, place_labels

HW = (120, 210)
IMAGE = np.full((*HW, 3), 90, np.uint8)


def differs(drawn, other):
    return (drawn != other).any(axis=2)


@pytest.mark.parametrize('center_yx', [(60, 105), (6, 8), (114, 203), (4, 100), (60, 204)])
def test_a_label_hides_no_pixel_of_an_object_wherever_it_lies(center_yx):
    mask = disc(center_yx, 9, HW)
    with_label = draw_instances(IMAGE, [mask], [0.5])
    label = differs(with_label, draw_instances(IMAGE, [mask]))
    assert label.sum() > 100 and not (label & mask).any()


def test_labels_of_neighbours_hide_neither_object_nor_each_other():
    masks = [disc((60, x), 9, HW) for x in (60, 82, 104)] + [disc((40, 82), 9, HW)]
    sizes = [(30, 14)] * len(masks)
    taken = np.zeros(HW, int)
    for (x, y), (width, height) in zip(place_labels(masks, sizes), sizes, strict=True):
        taken[y : y + height, x : x + width] += 1
    assert taken.sum() == 4 * 30 * 14 and taken.max() == 1
    assert not any(taken[mask].any() for mask in masks)


def test_the_label_of_a_whole_wall_keeps_off_the_object_in_front_of_it():
    ball = disc((60, 105), 20, HW)
    (x, y), (other_x, other_y) = place_labels([~ball, ball], [(30, 14)] * 2)
    assert not ball[y : y + 14, x : x + 30].any()
    assert not ball[other_y : other_y + 14, other_x : other_x + 30].any()


def test_an_instance_keeps_its_colour_where_it_is_drawn_alone():
    masks = [disc((60, 50), 20, HW), disc((60, 150), 20, HW)]
    both, alone = draw_instances(IMAGE, masks), draw_instances(IMAGE, masks[1:], first=1)
    assert (both[masks[1]] == alone[masks[1]]).all()
    assert not np.allclose(instance_color(0), instance_color(1))


def test_a_followed_object_keeps_colour_and_label_whatever_its_place():
    masks = [disc((60, 50), 20, HW), disc((60, 150), 20, HW)]
    both = draw_instances(IMAGE, masks, [0.9, 0.8], numbers=[3, 12])
    turned = draw_instances(IMAGE, masks[::-1], [0.2, 0.1], numbers=[12, 3])
    assert (both == turned).all()
    alone = draw_instances(IMAGE, masks[:1], first=2)
    assert (both[masks[0]] == alone[masks[0]]).all()


def test_empty_masks_get_no_label():
    nothing = np.zeros(HW, bool)
    assert (draw_instances(IMAGE, [nothing], [0.5]) == IMAGE).all()


def test_images_smaller_than_a_label_are_drawn():
    image, mask = np.full((8, 12, 3), 90, np.uint8), disc((4, 6), 2, (8, 12))
    assert draw_instances(image, [mask], [0.5]).shape == image.shape
