from __future__ import annotations

import errno

import numpy as np
import pytest

from cuts3d_mm.pipeline import local
from cuts3d_mm.pipeline.local import Slots, removed_at_end, segment_names, unpack


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


@pytest.mark.skipif(not local._FOLDER.is_dir(), reason='no folder of shared memory')
def test_a_sender_waits_until_there_is_room_for_its_bytes_and_a_huge_value_goes_alone():
    names, held, most = segment_names(4), [], []

    def note():
        sizes = [(local._FOLDER / name).stat().st_size for name in names
                 if (local._FOLDER / name).exists()]  # fmt: skip
        most.append(sum(sizes))

    def wait():
        return held.pop(0)

    with removed_at_end([names]):
        slots = Slots(names, wait, most_bytes=100_000)
        for size, waiting in ((60_000, 1), (30_000, 2), (60_000, 2), (300_000, 1), (60_000, 1)):
            held.append(slots.pack(np.zeros(size, np.uint8)).slot)
            assert len(held) == waiting
            note()
    assert max(most[:3]) < 110_000 and most[3] < 310_000 and most[4] < 310_000


def test_a_value_without_arrays_needs_no_shared_memory_but_counts():
    slots = Slots(segment_names(1), never)
    parcel = slots.pack(('failure', 3))
    assert parcel.segment == '' and unpack(parcel) == ('failure', 3)
    with pytest.raises(AssertionError, match='a slot must be free'):
        slots.pack(('failure', 4))
    slots.release(parcel.slot)
    assert slots.pack(4).slot == parcel.slot


def test_empty_arrays_need_none_either():
    parcel = Slots(segment_names(1), never).pack([np.zeros((0, 20, 30), bool), np.zeros(0)])
    found = unpack(parcel)
    assert parcel.segment == '' and found[0].shape == (0, 20, 30) and found[1].shape == (0,)


def limit_shared_memory(monkeypatch, room):
    make, made = local._make_segment, []

    def limited(name, size):
        if len(made) == room:
            raise OSError(errno.ENOSPC, 'No space left on device')
        made.append(name)
        return make(name, size)

    monkeypatch.setattr(local, '_make_segment', limited)
    return made


def test_where_shared_memory_is_full_arrays_go_with_the_parcel(monkeypatch):
    names = segment_names(3)
    limit_shared_memory(monkeypatch, 1)
    with removed_at_end([names]):
        slots = Slots(names, never)
        parcels = [slots.pack(np.full(4, number)) for number in range(3)]
        assert sum(parcel.segment != '' for parcel in parcels) == 1
        assert [unpack(parcel)[0] for parcel in parcels] == [0, 1, 2]


@pytest.mark.skipif(not local._FOLDER.is_dir(), reason='no folder of shared memory')
def test_shared_memory_of_a_killed_maker_is_removed():
    names = segment_names(2)
    for name in names:
        (local._FOLDER / name).touch()  # made, but without a size yet
    with removed_at_end([names]):
        pass
    assert not any((local._FOLDER / name).exists() for name in names)
