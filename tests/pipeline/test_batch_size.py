from __future__ import annotations

import json

import pytest

from cuts3d_mm.pipeline import devices
from cuts3d_mm.pipeline.devices import batch_size_for, choose_batch_size

GIB = 2**30


@pytest.mark.parametrize(
    ('gib', 'size'), [(0, 1), (3.9, 1), (4, 2), (8, 4), (24, 8), (40, 16), (80, 32), (141, 32)]
)
def test_the_batch_size_is_the_largest_power_of_two_that_fits(gib, size):
    assert batch_size_for(int(gib * GIB)) == size


def test_a_run_keeps_the_batch_size_that_it_began_with(tmp_path, monkeypatch):
    monkeypatch.setattr(devices, '_memory_of', lambda device: 24 * GIB)
    assert choose_batch_size(tmp_path, 'cuda') == 8
    identity = {'model': {}, 'images': '', 'num_images': 1, 'images_per_shard': 8}
    identity['extraction'] = {'device': 'cuda', 'batch_size': 5}
    (tmp_path / 'run.json').write_text(json.dumps({'format': 2, 'identity': identity}))
    assert choose_batch_size(tmp_path, 'cuda') == 5


def test_the_cpu_takes_one_image_at_a_time(tmp_path):
    assert choose_batch_size(tmp_path, 'cpu') == 1
