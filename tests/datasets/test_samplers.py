from __future__ import annotations

import pickle
from itertools import islice

import pytest

from cuts3d_mm.datasets.samplers import SeededIndex, SeededInfiniteSampler


def first(sampler, count):
    return [(int(index), index.seed) for index in islice(iter(sampler), count)]


def test_a_resumed_sampler_goes_on_where_it_was():
    whole = first(SeededInfiniteSampler(range(7), seed=3), 25)
    resumed = SeededInfiniteSampler(range(7), seed=3)
    resumed.skip(11)
    assert first(resumed, 14) == whole[11:]


def test_every_sample_has_a_seed_of_its_own():
    drawn = first(SeededInfiniteSampler(range(7), seed=3), 70)
    assert len({seed for _, seed in drawn}) == 70
    assert sorted(index for index, _ in drawn[:7]) == list(range(7))


def test_an_index_survives_the_way_to_a_worker():
    copy = pickle.loads(pickle.dumps(SeededIndex(5, 42)))
    assert copy == 5 and copy.seed == 42 and [10, 20, 30, 40, 50, 60][copy] == 60


def test_data_without_a_sample_are_refused_and_not_searched_without_end():
    with pytest.raises(ValueError, match='must hold an image with an instance'):
        SeededInfiniteSampler([])
