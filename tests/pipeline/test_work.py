from __future__ import annotations

import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

import numpy as np
import pytest
import torch
from helpers.drawn import write_images

from cuts3d_mm.cli import one_line
from cuts3d_mm.images.reading import ImageFailure
from cuts3d_mm.labellers.generator import Stage
from cuts3d_mm.labels.store import read_store
from cuts3d_mm.pipeline import work
from cuts3d_mm.pipeline.progress import Stopwatch
from cuts3d_mm.pipeline.work import (
    BuiltLabeller,
    ExtractedImage,
    Extraction,
    ReadAhead,
    Worker,
    WorkOrder,
    finish_image,
)

SHORTAGES = {
    'device': lambda: torch.cuda.OutOfMemoryError('CUDA out of memory. Tried 2 GiB\n.'),
    'process': MemoryError,
    'cpu of torch': lambda: RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes"),
    'cublas': lambda: RuntimeError('CUDA error: CUBLAS_STATUS_ALLOC_FAILED'),
    'image': lambda: ImageFailure('no depth'),
}


class Labeller:
    """Has memory for a few images at a time, and never for some of them."""

    def __init__(self, most, error, too_large=()):
        self.most, self.error, self.too_large = most, error, too_large
        self.batches = []

    def predict_batch(self, images):
        self.batches.append(len(images))
        if len(images) > self.most or any(image.name in self.too_large for image in images):
            raise self.error()
        return [() for _ in images]


def label(tmp_path, names, labeller):
    source = BuiltLabeller(labeller, {})
    order = WorkOrder(source, tmp_path / 'images', tmp_path, batch_size=8)
    list(Worker(order).label([(0, names)]))
    return list(read_store(tmp_path))


@pytest.fixture
def names(tmp_path, rng):
    return write_images(tmp_path / 'images', 8, rng)


@pytest.mark.parametrize('kind', SHORTAGES)
def test_a_batch_that_does_not_fit_is_halved_until_it_does(tmp_path, names, kind):
    labeller = Labeller(2, SHORTAGES[kind])
    records = label(tmp_path, names, labeller)
    assert [record.name for record in records] == names
    assert all(record.failure is None for record in records)
    assert labeller.batches == [8, 4, 2, 2, 4, 2, 2]


@pytest.mark.parametrize('kind', SHORTAGES)
def test_an_image_that_does_not_fit_alone_is_one_record(tmp_path, names, kind):
    records = label(tmp_path, names, Labeller(8, SHORTAGES[kind], too_large=names[5:6]))
    (failed,) = (record for record in records if record.failure is not None)
    assert failed.name == names[5] and '\n' not in failed.failure
    assert failed.failure.startswith('no depth' if kind == 'image' else 'out of memory')


@pytest.mark.parametrize('kind', ['process', 'cpu of torch', 'image'])
def test_an_image_that_fails_while_it_is_prepared_is_one_record(tmp_path, names, kind):
    class Preparing(Labeller):
        def prepare(self, image):
            if image.name == names[5]:
                raise SHORTAGES[kind]()
            return image

    records = label(tmp_path, names, Preparing(8, MemoryError))
    assert [record.name for record in records if record.failure is not None] == names[5:6]


@pytest.mark.parametrize('error', [TypeError, ZeroDivisionError, ValueError])
def test_an_error_that_nobody_foresaw_ends_the_run_and_names_its_image(tmp_path, names, error):
    labeller = Labeller(8, lambda: error('broken inside'), too_large=names[5:6])
    with pytest.raises(error) as raised:
        label(tmp_path, names, labeller)
    found = pickle.loads(pickle.dumps(raised.value))  # as a worker sends it
    line = one_line(found)
    assert line.startswith('broken inside; ') and f'--exclude can leave {names[5]} out' in line
    assert sum(name in line for name in names) == 1


def test_an_error_of_a_stage_names_its_image():
    def fail(content):
        raise AttributeError('broken inside')

    image = ExtractedImage('a/b.png', (3, 4), None)
    with pytest.raises(AttributeError) as raised:
        finish_image(image, [Stage('cut', fail)], Stopwatch())
    assert '--exclude can leave a/b.png out' in one_line(raised.value)


def test_memory_of_the_failed_batch_is_free_when_the_halves_are_tried(tmp_path, names):
    held = []

    class Holding(Labeller):
        def predict_batch(self, images):
            assert not held
            array = Owned(np.zeros(3), held)
            assert array.held == ['array']
            return super().predict_batch(images)

    class Owned:
        def __init__(self, array, held):
            self.array, self.held = array, held
            held.append('array')

        def __del__(self):
            self.held.pop()

    records = label(tmp_path, names, Holding(1, MemoryError))
    assert all(record.failure is None for record in records)


def test_another_error_of_torch_is_raised(tmp_path, names):
    with pytest.raises(RuntimeError, match='mat1 and mat2'):
        label(tmp_path, names, Labeller(0, lambda: RuntimeError('mat1 and mat2 differ')))


NAMES = [str(number) for number in range(24)]


class Reader:
    """Reads arrays of 1000 bytes that hold their number."""

    def __init__(self):
        self.started, self.lock = 0, Lock()

    def __call__(self, name):
        with self.lock:
            self.started += 1
        if name == 'bad':
            raise OSError('bad')
        return np.full(1000, int(name), np.uint8)


def read_ahead(reader, names, most, most_bytes):
    return ReadAhead(reader, names, ThreadPoolExecutor(2), 2, most, most_bytes)


@pytest.mark.parametrize(
    ('most', 'most_bytes', 'ahead'), [(6, 10**9, 6), (100, 4500, 6), (100, 1, 2), (1, 10**9, 1)]
)
def test_reads_keep_their_order_and_stay_within_their_limits(most, most_bytes, ahead):
    reader = Reader()
    taken = 0
    for value in read_ahead(reader, NAMES, most, most_bytes):
        assert value[0] == taken
        taken += 1
        time.sleep(0.003)  # the threads read on meanwhile
        assert reader.started - taken <= ahead
    assert taken == len(NAMES) == reader.started


def test_reading_goes_on_while_nobody_asks():
    reader = Reader()
    values = iter(read_ahead(reader, NAMES, 20, 10**9))
    next(values)
    deadline = time.monotonic() + 60
    while reader.started < 21:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    values.close()


def test_what_a_read_raises_comes_at_its_place():
    values = iter(read_ahead(Reader(), ['0', 'bad', '2'], 3, 10**9))
    assert next(values)[0] == 0
    with pytest.raises(OSError, match='bad'):
        next(values)


@pytest.mark.parametrize('readers', [0, 3])
def test_batches_are_of_one_shape_and_smaller_where_images_are_very_large(
    tmp_path, rng, monkeypatch, readers
):
    names = write_images(tmp_path, 7, rng, (60, 88))
    write_images(tmp_path / 'large', 3, rng, (120, 176))
    names = [*names[:5], 'large/a/000.png', names[5], 'large/a/001.png', 'large/b/000.png']
    sizes = []

    class Noting:
        def predict_batch(self, images):
            sizes.append([image.pixels.shape[0] for image in images])
            return [() for _ in images]

    monkeypatch.setattr(work, '_MOST_PIXEL_BYTES', 5 * 60 * 88 * 3 + 200)  # and for names
    extraction = Extraction(Noting(), tmp_path, 3, Stopwatch(), readers)
    found = {position: image.name for _, position, image in extraction.run([(0, names)])}
    assert [found[position] for position in range(9)] == names
    assert sizes == [[60] * 3, [60] * 2, [60, 120], [120], [120]]
