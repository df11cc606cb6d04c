from __future__ import annotations

import pickle
import sys
import threading
import time
from signal import SIGSEGV
from types import MappingProxyType
from unittest.mock import MagicMock

import numpy as np
import pytest
from helpers.drawn import cuts3d_model, write_depths, write_images
from helpers.runs import content, label
from helpers.stand_in_labellers import DiesOnce, Greedy, Halving, Nothing
from PIL import Image

from cuts3d_mm import __version__
from cuts3d_mm.labellers.registry import build_labeller
from cuts3d_mm.labels.store import read_store, shard_paths, was_batch_halved
from cuts3d_mm.pipeline import local
from cuts3d_mm.pipeline.local import LocalExecutor, serve_helper
from cuts3d_mm.pipeline.ray import Extracted, Job, finish_shard_here
from cuts3d_mm.pipeline.run import WorkerLost
from cuts3d_mm.pipeline.work import BuiltLabeller, ConfiguredLabeller, WorkOrder


def run(folder, out, executor, source, batch_size=3):
    return label(folder, out, source, executor, batch_size)


@pytest.fixture
def model(tmp_path, rng):
    """Config for 20 images of which two fail: depth is missing, or the file is empty."""
    names = write_images(tmp_path / 'images', 20, rng)
    write_depths(tmp_path / 'depth', names[1:], rng)
    (tmp_path / 'images' / names[9]).write_bytes(b'')
    return cuts3d_model(tmp_path / 'depth')


@pytest.mark.slow
@pytest.mark.parametrize('devices', [('cpu',), ('cpu', 'cpu')])
def test_networks_in_processes_of_their_own_give_the_same_bytes(tmp_path, model, devices):
    source = ConfiguredLabeller(model)
    counts, _ = run(tmp_path / 'images', tmp_path / 'one', LocalExecutor(0), source)
    executor = LocalExecutor(2, devices)
    staged, log = run(tmp_path / 'images', tmp_path / 'staged', executor, source)
    assert counts == staged == log.counts and counts.failures == 2
    assert content(tmp_path / 'one') == content(tmp_path / 'staged')
    assert {span.stage for span in log.spans} == set(
        'read extract cut refine encode write'.split()
    )
    assert sum(span.images for span in log.spans if span.stage == 'write') == 20


@pytest.mark.slow
def test_networks_of_this_process_with_workers_beside_it_give_the_same_bytes(tmp_path, model):
    generator = build_labeller(model)
    generator.unpicklable = lambda: None  # it stays in this process
    source = BuiltLabeller(generator, {})
    counts, _ = run(tmp_path / 'images', tmp_path / 'one', LocalExecutor(0), source)
    executor, num_threads = LocalExecutor(2, is_beside=True), threading.active_count()
    next_to, log = run(tmp_path / 'images', tmp_path / 'next_to', executor, source)
    assert counts == next_to == log.counts and counts.failures == 2 and counts.instances
    assert content(tmp_path / 'one') == content(tmp_path / 'next_to')
    assert sum(span.images for span in log.spans if span.stage == 'write') == 20
    deadline_s = time.monotonic() + 5
    while threading.active_count() > num_threads and time.monotonic() < deadline_s:
        time.sleep(0.05)
    assert threading.active_count() == num_threads  # a training calls this again and again


@pytest.mark.slow
def test_a_worker_that_dies_beside_the_networks_ends_the_run(tmp_path, rng, monkeypatch):
    write_images(tmp_path / 'images', 3, rng)
    monkeypatch.setattr(local, 'serve_helper', Greedy)
    source = BuiltLabeller(Halving(), {})
    with pytest.raises((WorkerLost, TypeError)):
        run(tmp_path / 'images', tmp_path / 'out', LocalExecutor(1, is_beside=True), source)


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
def test_workers_that_die_each_time_end_the_run(tmp_path, rng, caplog, monkeypatch):
    monkeypatch.setattr('cuts3d_mm.pipeline.run._MOST_LOSSES', 2)
    (tmp_path / 'images').mkdir()
    Image.fromarray(rng.integers(0, 256, (30, 41, 3), dtype=np.uint8)).save(
        tmp_path / 'images/c.png'
    )
    said = 'died of SIGKILL, most likely out of memory; run the same command again'
    with pytest.raises(WorkerLost, match=said):
        run(tmp_path / 'images', tmp_path / 'out', LocalExecutor(1, ('cpu',)),
            BuiltLabeller(Halving(), {}))  # fmt: skip
    assert caplog.text.count('made again now') == 1


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
    serve_helper(MagicMock(recv_bytes=MagicMock(side_effect=EOFError)), source)
    assert sys.modules.pop('registers_parts', None)
    label_nothing = pickle.dumps(Job(order, str(tmp_path), __version__)), 0
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'out').mkdir()
    finish_shard_here(*label_nothing, Extracted([], (), ()))
    assert 'registers_parts' in sys.modules


class OfTable(Exception):
    names = MappingProxyType({'no-room': 'there is no room'})

    def __init__(self, key):
        super().__init__(self.names[key])


def fail(watch):
    error = OfTable('no-room')
    error.add_note('it came with an image')
    raise error


def test_an_exception_that_cannot_be_unpickled_says_what_it_said():
    connection = MagicMock(recv_bytes=MagicMock(return_value=pickle.dumps(fail)))
    serve_helper(connection, ConfiguredLabeller({}))
    error = pickle.loads(connection.send.call_args.args[0].error)
    assert str(error) == 'OfTable: there is no room'
    assert error.__notes__ == ['it came with an image']


def test_a_batch_holds_an_image_at_least(tmp_path, rng):
    write_images(tmp_path / 'images', 2, rng)
    with pytest.raises(ValueError, match='batch_size must be at least 1, got 0'):
        run(tmp_path / 'images', tmp_path / 'out', LocalExecutor(0),
            BuiltLabeller(Nothing(), {}), batch_size=0)  # fmt: skip
