from __future__ import annotations

import errno
import os
import pickle
import sys
from dataclasses import replace
from pathlib import Path
from signal import SIGSEGV
from unittest.mock import MagicMock

import numpy as np
import pytest
from helpers.drawn import cuts3d_model, write_depths, write_images
from helpers.stand_in_labellers import DiesOnce, Greedy, Halving, Nothing
from PIL import Image

from cuts3d_mm import __version__
from cuts3d_mm.files.atomic import ProcessMark
from cuts3d_mm.images.listing import list_images
from cuts3d_mm.labellers.registry import build_labeller
from cuts3d_mm.labels.store import read_store, shard_paths, was_batch_halved
from cuts3d_mm.pipeline import local
from cuts3d_mm.pipeline.local import (
    LocalExecutor,
    Slots,
    removed_at_end,
    segment_names,
    serve_worker,
    unpack,
)
from cuts3d_mm.pipeline.ray import Extracted, Job, finish_shard_here
from cuts3d_mm.pipeline.run import Split, WorkerLost, label_images
from cuts3d_mm.pipeline.work import BuiltLabeller, ConfiguredLabeller, WorkOrder

SHARED = Path('/dev/shm')


class Log:
    def __init__(self):
        self.spans = []

    def start(self, total_images, done):
        self.counts = done

    def add(self, report):
        self.counts += report.counts
        self.spans += report.spans


@pytest.fixture
def segments(monkeypatch):
    """Names of the shared memory that this test has made and not removed."""
    token_hex, tokens = local.secrets.token_hex, []

    def remembered(num_bytes):
        tokens.append(token_hex(num_bytes))
        return tokens[-1]

    monkeypatch.setattr(local.secrets, 'token_hex', remembered)
    yield lambda: [path.name for one in tokens for path in SHARED.glob(f'cuts3d_*{one}_*')]
    assert tokens


def run(folder, out, executor, source, batch_size=3):
    images = list_images(folder)
    log = Log()
    order = WorkOrder(source, images.root, out, batch_size)
    return label_images(order, images, executor, Split(), log), log


def content(out):
    return {path.name: path.read_bytes() for path in out.glob('*.parquet')}


@pytest.mark.slow
@pytest.mark.parametrize('devices', [('cpu',), ('cpu', 'cpu')])
def test_networks_in_processes_of_their_own_give_the_same_bytes(tmp_path, rng, segments, devices):
    names = write_images(tmp_path / 'images', 20, rng)
    write_depths(tmp_path / 'depth', names[1:], rng)
    (tmp_path / 'images' / names[9]).write_bytes(b'')
    source = ConfiguredLabeller(cuts3d_model(tmp_path / 'depth'))
    counts, _ = run(tmp_path / 'images', tmp_path / 'one', LocalExecutor(0), source)
    executor = LocalExecutor(2, devices)
    staged, log = run(tmp_path / 'images', tmp_path / 'staged', executor, source)
    assert counts == staged == log.counts and counts.failures == 2
    assert content(tmp_path / 'one') == content(tmp_path / 'staged') and not segments()
    assert {span.stage for span in log.spans} == set(
        'read extract cut refine encode write'.split()
    )
    assert sum(span.images for span in log.spans if span.stage == 'write') == 20


@pytest.mark.slow
def test_networks_of_this_process_with_workers_beside_it_give_the_same_bytes(
    tmp_path, rng, segments
):
    names = write_images(tmp_path / 'images', 20, rng)
    write_depths(tmp_path / 'depth', names[1:], rng)
    (tmp_path / 'images' / names[9]).write_bytes(b'')
    generator = build_labeller(cuts3d_model(tmp_path / 'depth'))
    generator.unpicklable = lambda: None  # it stays in this process
    source = BuiltLabeller(generator, {})
    counts, _ = run(tmp_path / 'images', tmp_path / 'one', LocalExecutor(0), source)
    executor = LocalExecutor(2, is_beside=True)
    next_to, log = run(tmp_path / 'images', tmp_path / 'next_to', executor, source)
    assert counts == next_to == log.counts and counts.failures == 2 and counts.instances
    assert content(tmp_path / 'one') == content(tmp_path / 'next_to') and not segments()
    assert sum(span.images for span in log.spans if span.stage == 'write') == 20


@pytest.mark.slow
def test_a_worker_that_dies_beside_the_networks_ends_the_run(tmp_path, rng, monkeypatch, segments):
    write_images(tmp_path / 'images', 3, rng)
    monkeypatch.setattr(local, 'serve_worker', Greedy)
    source = BuiltLabeller(Halving(), {})
    with pytest.raises((WorkerLost, TypeError)):
        run(tmp_path / 'images', tmp_path / 'out', LocalExecutor(1, is_beside=True), source)
    assert not segments()


@pytest.mark.slow
def test_a_shard_says_whether_a_batch_was_halved_for_memory(tmp_path, rng):
    write_images(tmp_path / 'images', 3, rng)
    for executor in (LocalExecutor(0), LocalExecutor(1, ('cpu',))):
        out = tmp_path / f'out{executor.workers}'
        counts, _ = run(tmp_path / 'images', out, executor, BuiltLabeller(Halving(), {}))
        (shard,) = shard_paths(out)
        assert was_batch_halved(shard) and counts.images == 3
    counts, _ = run(tmp_path / 'images', tmp_path / 'full', LocalExecutor(0),
                    BuiltLabeller(Halving(), {}), batch_size=1)  # fmt: skip
    assert not was_batch_halved(shard_paths(tmp_path / 'full')[0])


@pytest.mark.slow
def test_an_image_that_cannot_be_cut_fails_alone(tmp_path, rng):
    pixels = rng.integers(0, 256, (30, 41, 3), dtype=np.uint8)
    (tmp_path / 'images').mkdir()
    for name in 'abd':
        Image.fromarray(pixels).save(tmp_path / f'images/{name}.png')
    run(tmp_path / 'images', tmp_path / 'out', LocalExecutor(1, ('cpu',)),
        BuiltLabeller(Halving(), {}))  # fmt: skip
    reasons = {record.name: record.failure for record in read_store(tmp_path / 'out')}
    assert reasons == {'a.png': None, 'b.png': 'cannot be cut', 'd.png': None}


@pytest.mark.slow
def test_workers_that_die_each_time_end_the_run_and_leave_no_shared_memory(
    tmp_path, rng, segments, caplog, monkeypatch
):
    monkeypatch.setattr('cuts3d_mm.pipeline.run._MOST_LOSSES', 2)
    (tmp_path / 'images').mkdir()
    Image.fromarray(rng.integers(0, 256, (30, 41, 3), dtype=np.uint8)).save(
        tmp_path / 'images/c.png'
    )
    said = 'died of SIGKILL, most likely out of memory; run the same command again'
    with pytest.raises(WorkerLost, match=said):
        run(tmp_path / 'images', tmp_path / 'out', LocalExecutor(1, ('cpu',)),
            BuiltLabeller(Halving(), {}))  # fmt: skip
    assert caplog.text.count('made again now') == 1 and not segments()


@pytest.mark.slow
def test_a_killed_worker_does_not_end_a_run_and_changes_no_byte(
    tmp_path, rng, caplog, monkeypatch
):
    monkeypatch.setattr('cuts3d_mm.pipeline.run.images_per_shard', lambda *_: 2)
    write_images(tmp_path / 'images', 6, rng)
    (tmp_path / 'lives').mkdir()
    source = BuiltLabeller(DiesOnce(tmp_path / 'lives', SIGSEGV), {})
    whole, _ = run(tmp_path / 'images', tmp_path / 'whole', LocalExecutor(0), source)
    (tmp_path / 'lives/1').touch()
    counts, log = run(tmp_path / 'images', tmp_path / 'out', LocalExecutor(1), source)
    assert counts == whole == log.counts and content(tmp_path / 'out') == content(
        tmp_path / 'whole'
    )
    said = 'a worker process died of SIGSEGV; what it had begun is made again now'
    assert caplog.text.count(said) == 1


@pytest.mark.slow
def test_images_without_any_detection_do_not_end_a_run(tmp_path, rng):
    write_images(tmp_path / 'images', 2, rng)
    executor = LocalExecutor(1, ('cpu',))
    counts, _ = run(tmp_path / 'images', tmp_path / 'out', executor, BuiltLabeller(Nothing(), {}))
    assert counts.images == 2 and counts.instances == counts.failures == 0


def test_an_image_whose_masks_do_not_fit_into_memory_fails_alone(tmp_path, rng):
    write_images(tmp_path / 'images', 2, rng)
    source = BuiltLabeller(Greedy(), {})
    counts, _ = run(tmp_path / 'images', tmp_path / 'out', LocalExecutor(0), source)
    assert counts.images == counts.failures == 2
    assert all('out of memory' in r.failure for r in read_store(tmp_path / 'out'))


def test_a_process_without_networks_imports_what_registers_parts(tmp_path, monkeypatch):
    (tmp_path / 'registers_parts.py').touch()
    monkeypatch.syspath_prepend(tmp_path)
    source = ConfiguredLabeller({}, {'imports': ['registers_parts']})
    order = WorkOrder(source, tmp_path, tmp_path / 'out', 1)
    serve_worker(MagicMock(recv=MagicMock(side_effect=EOFError)), order)
    assert sys.modules.pop('registers_parts', None)
    label_nothing = pickle.dumps(Job(order, str(tmp_path), __version__)), 0
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'out').mkdir()
    finish_shard_here(*label_nothing, Extracted([], (), ()))
    assert 'registers_parts' in sys.modules


def test_a_batch_holds_an_image_at_least(tmp_path, rng):
    write_images(tmp_path / 'images', 2, rng)
    with pytest.raises(ValueError, match='batch_size must be at least 1, got 0'):
        run(tmp_path / 'images', tmp_path / 'out', LocalExecutor(0),
            BuiltLabeller(Nothing(), {}), batch_size=0)  # fmt: skip


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


def limit_shared_memory(monkeypatch, room, reason):
    make, made = local._make_segment, []

    def limited(name, size):
        if len(made) == room:
            raise OSError(reason, os.strerror(reason))
        made.append(name)
        return make(name, size)

    monkeypatch.setattr(local, '_make_segment', limited)
    return made


@pytest.mark.parametrize('reason', [errno.ENOSPC, errno.EACCES, errno.EMFILE, errno.EEXIST])
def test_where_no_shared_memory_can_be_had_arrays_go_with_the_parcel(monkeypatch, reason):
    names = segment_names(3)
    limit_shared_memory(monkeypatch, 1, reason)
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


@pytest.mark.skipif(not local._FOLDER.is_dir(), reason='no folder of shared memory')
def test_shared_memory_of_dead_processes_is_removed_at_the_next_start():
    living = ProcessMark.of_this_process()
    dead = replace(living, started=living.started + 1)
    elsewhere = replace(dead, machine='0' * 8)
    paths = [local._FOLDER / f'cuts3d_{mark}_test_0' for mark in (dead, living, elsewhere)]
    for path in paths:
        path.write_bytes(b'x')
    try:
        with removed_at_end([]):
            assert [path.exists() for path in paths] == [False, True, True]
    finally:
        for path in paths:
            path.unlink(missing_ok=True)
