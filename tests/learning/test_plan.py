"""Schedules follow CutLER's, by one rule."""

from __future__ import annotations

import pytest

from cuts3d_mm.learning.plan import (
    IMAGENET_IMAGES,
    Schedule,
    held_out_names,
    in_random_order,
    scale_schedule,
    scale_schedulers,
)

CUTLER = Schedule(IMAGENET_IMAGES, 16, 160_000, (80_000, 80_000))


def test_the_rule_gives_both_schedules_of_cutler_that_it_goes_through():
    assert scale_schedule(CUTLER, IMAGENET_IMAGES, 16) == CUTLER
    assert scale_schedule(CUTLER, 1_183, 16).initial_steps == 3_600


def test_half_the_batch_takes_twice_the_steps():
    one, two = (scale_schedule(CUTLER, 5_000, size) for size in (8, 16))
    assert one.initial_steps == pytest.approx(2 * two.initial_steps, abs=1)
    assert one.round_steps[0] == pytest.approx(one.initial_steps / 2, abs=1)


def test_rounds_begin_where_the_stage_before_ends():
    schedule = Schedule(10, 2, 100, (50, 40))
    assert schedule.begins == (100, 150) and schedule.total_steps == 190
    assert schedule.with_rounds(3).round_steps == (50, 40, 40)
    assert schedule.with_rounds(0).begins == ()


def test_other_steps_of_the_initial_round_change_the_rounds_by_the_same_factor():
    schedule = Schedule(10, 2, 100, (50, 1))
    assert schedule.with_initial_steps(30) == Schedule(10, 2, 30, (15, 1))


def test_the_rate_drops_at_the_same_place_and_a_warm_up_takes_a_quarter_at_most():
    warm_up = {'type': 'LinearLR', 'begin': 0, 'end': 1000}
    drop = {'type': 'MultiStepLR', 'end': 160_000, 'milestones': [80_000], 'gamma': 0.02}
    short = scale_schedulers([warm_up, drop], (160_000, 200))
    assert short == [{**warm_up, 'end': 50}, {**drop, 'end': 200, 'milestones': [100]}]
    long = scale_schedulers([warm_up, drop], (160_000, 1_600_000))
    assert long[0] == warm_up and long[1]['milestones'] == [800_000]


NAMES = [f'{number:04d}.jpg' for number in range(1000)]


def test_a_tenth_of_the_images_is_held_out():
    assert 70 < len(held_out_names(NAMES)) < 130


def test_more_images_move_no_earlier_one_to_the_other_side():
    few, many = set(held_out_names(NAMES[:400])), set(held_out_names(NAMES))
    assert few == many & set(NAMES[:400])


def test_one_image_of_a_small_set_is_held_out():
    assert len(held_out_names(NAMES[:3])) == 1


def test_one_of_several_images_is_trained_on_though_all_have_small_hashes():
    small = held_out_names(NAMES)
    assert len(held_out_names(small[:2])) == 1 and len(held_out_names(small)) == len(small) - 1


def test_orders_for_two_purposes_differ_and_each_is_always_the_same():
    one, other = (in_random_order(NAMES[:20], purpose) for purpose in ('a', 'b'))
    assert sorted(one) == sorted(other) == NAMES[:20] and one != other
    assert in_random_order(NAMES[19::-1], 'a') == one
