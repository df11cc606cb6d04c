from __future__ import annotations

import numpy as np
import pytest
from helpers.drawn import disc

from cuts3d_mm.visualization.overlays import (
    draw_instances,
    draw_sample,
    instance_color,
    place_labels,
)

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


def test_the_name_of_a_class_stands_before_the_score():
    mask = disc((60, 105), 9, HW)
    plain, none, named = (
        differs(draw_instances(IMAGE, [mask], [0.5], categories=names), IMAGE) & ~mask
        for names in (None, [None], ['cat'])
    )
    assert (plain == none).all() and named.sum() > 1.4 * plain.sum()


def test_labels_of_neighbours_hide_neither_object_nor_each_other():
    masks = [disc((60, x), 9, HW) for x in (60, 82, 104)] + [disc((40, 82), 9, HW)]
    sizes = [(30, 14)] * len(masks)
    taken = np.zeros(HW, int)
    for (x, y), (width, height) in zip(place_labels(masks, sizes), sizes, strict=True):
        taken[y : y + height, x : x + width] += 1
    assert taken.sum() == 4 * 30 * 14 and taken.max() == 1
    assert not any(taken[mask].any() for mask in masks)


def test_labels_for_which_there_is_no_room_are_left_out_rather_than_hide_objects():
    masks = [disc((y, x), 4, HW) for y in range(6, 120, 10) for x in range(6, 210, 10)]
    assert set(place_labels(masks, [(30, 14)] * len(masks))) == {None}
    drawn = draw_instances(IMAGE, masks, [0.5] * len(masks))
    assert (drawn == draw_instances(IMAGE, masks)).all()


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


def test_sample_shows_pasted_instances_in_red_and_others_in_green():
    image = np.full((30, 40, 3), 100, np.uint8)
    masks = np.stack([disc((15, 10), 6, (30, 40)), disc((15, 30), 6, (30, 40))])
    boxes = np.array([[4, 9, 17, 22], [24, 9, 37, 22]], np.float32)
    doubt = np.stack([np.full((30, 40), 0, np.uint8), np.full((30, 40), 195, np.uint8)])
    drawn = draw_sample(image, boxes, masks, doubt, np.array([False, True]))
    assert drawn.shape == (30, 80, 3)
    assert drawn[15, 4].argmax() == 1 and drawn[15, 24].argmax() == 0
    assert drawn[15, 40 + 10].sum() > drawn[15, 40 + 30].sum()
