from __future__ import annotations

import errno

import numpy as np
import pytest

from cuts3d_mm.pipeline import shared_memory
from cuts3d_mm.pipeline.shared_memory import (
    SharedMemoryFull,
    Slots,
    removed_at_end,
    segment_names,
    unpack,
)


def never():
    raise AssertionError('a slot must be free')


def test_values_arrive_as_they_were_sent_and_can_be_written_to(rng):
    value = {'a': rng.random((3, 5)), 'b': [rng.integers(0, 9, 7), 'text'], 'c': np.zeros((0, 2))}
    names = segment_names(1)
    with removed_at_end([names]):
        parcel = Slots(names, never).pack(value)
        arrived = unpack(parcel)
    assert len(parcel.pickled) < 1000 and arrived['b'][1] == 'text'
    for sent, got in ((value['a'], arrived['a']), (value['b'][0], arrived['b'][0])):
        np.testing.assert_array_equal(sent, got)
        got[0] = 0


def test_a_sender_waits_until_a_slot_is_free_and_grows_it(rng):
    names, asked = segment_names(2), []
    small, large = np.arange(3.0), rng.random((200, 300))

    def wait():
        asked.append(len(asked))
        return asked[-1] % 2

    with removed_at_end([names]):
        slots = Slots(names, wait)
        slots.pack(small)
        slots.pack(small)
        assert not asked
        parcels = [slots.pack(large), slots.pack(small)]
        assert asked == [0, 1] and [parcel.slot for parcel in parcels] == [0, 1]
        np.testing.assert_array_equal(unpack(parcels[0]), large)
        np.testing.assert_array_equal(unpack(parcels[1]), small)


def test_a_value_without_arrays_takes_no_slot():
    parcel = Slots(segment_names(1), never).pack(('failure', 3))
    assert parcel.slot == -1 and unpack(parcel) == ('failure', 3)


def test_a_small_shared_memory_means_fewer_slots_and_too_small_a_one_an_error(monkeypatch):
    make, made = shared_memory._make_segment, []

    def full(name, size):
        if len(made) == room:
            raise OSError(errno.ENOSPC, 'No space left on device')
        made.append(name)
        return make(name, size)

    monkeypatch.setattr(shared_memory, '_make_segment', full)
    names, room = segment_names(3), 1
    with removed_at_end([names]):
        slots = Slots(names, lambda: names.index(made[0]))
        for _ in range(3):
            unpack(slots.pack(np.ones(4)))
    room = 0
    made.clear()
    with pytest.raises(SharedMemoryFull, match='--shm-size=1g'):
        Slots(names, never).pack(np.ones(4))
