"""Images are chosen by their names."""

from __future__ import annotations

from cuts3d_mm.learning.plan import held_out_names, in_random_order

NAMES = [f'{number:04d}.jpg' for number in range(1000)]


def test_a_tenth_of_the_images_is_held_out():
    assert 70 < len(held_out_names(NAMES)) < 130


def test_more_images_move_no_earlier_one_to_the_other_side():
    few, many = set(held_out_names(NAMES[:400])), set(held_out_names(NAMES))
    assert few == many & set(NAMES[:400])


def test_one_image_of_a_small_set_is_held_out():
    assert len(held_out_names(NAMES[:3])) == 1


def test_an_image_stays_on_its_side_in_later_passes():
    held = held_out_names(NAMES[:5])
    rest = {*NAMES[:5]} - {*held}
    assert {*held_out_names(NAMES[:50], {*held}, rest)} > {*held}
    assert not {*held_out_names([*rest, 'new.jpg'], {*held}, rest)} & rest


def test_one_of_several_images_is_trained_on_though_all_have_small_hashes():
    small = held_out_names(NAMES)
    assert len(held_out_names(small[:2])) == 1 and len(held_out_names(small)) == len(small) - 1


def test_orders_for_two_purposes_differ_and_each_is_always_the_same():
    one, other = (in_random_order(NAMES[:20], purpose) for purpose in ('a', 'b'))
    assert sorted(one) == sorted(other) == NAMES[:20] and one != other
    assert in_random_order(NAMES[19::-1], 'a') == one
