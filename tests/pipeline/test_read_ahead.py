from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

import numpy as np
import pytest
from image_folders import write_images

from cuts3d_mm.pipeline import work
from cuts3d_mm.pipeline.progress import Stopwatch
from cuts3d_mm.pipeline.work import Extraction, ReadAhead

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
def test_batches_of_very_large_images_are_smaller(tmp_path, rng, monkeypatch, readers):
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
    found = [image.name for batch in extraction.run(names) for image in batch]
    assert found == names and sizes == [[60] * 3, [60] * 2, [120, 60], [120], [120]]
