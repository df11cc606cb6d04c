from __future__ import annotations

import numpy as np
import pytest
import torch
from image_folders import write_images

from cuts3d_mm.images.reading import ImageFailure
from cuts3d_mm.labels.store import read_store
from cuts3d_mm.pipeline.work import BuiltLabeller, Worker, WorkOrder

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
    list(Worker(order).label_shard(0, names))
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
