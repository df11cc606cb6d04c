from __future__ import annotations

import json
import os
import sys

import pytest
import torch
from helpers.drawn import MASKCUT

from cuts3d_mm.labellers.registry import check_labeller
from cuts3d_mm.pipeline import devices
from cuts3d_mm.pipeline.devices import (
    batch_size_for,
    choose_batch_size,
    default_workers,
    memory_limit,
    parse_devices,
    resolve_devices,
)


@pytest.fixture
def three_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 3)


def test_numbers_are_gpus(three_gpus):
    assert parse_devices('0,2') == ('cuda:0', 'cuda:2')
    assert parse_devices('cuda:1, 00') == ('cuda:1', 'cuda:0')
    assert parse_devices('cuda') == ('cuda:0',)


def test_processes_of_their_own_on_the_cpu_have_numbers():
    assert parse_devices('cpu:0, cpu:01') == ('cpu:0', 'cpu:1')
    assert parse_devices('cpu') == ('cpu',)


def test_auto_is_all_gpus_or_the_cpu(three_gpus, monkeypatch):
    assert resolve_devices(parse_devices('auto')) == ('cuda:0', 'cuda:1', 'cuda:2')
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    assert resolve_devices(parse_devices('auto')) == ('cpu',)
    assert resolve_devices(('cpu',)) == ('cpu',)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('0,0', 'once'),
        ('cuda,0', 'once'),
        ('auto,0', 'one kind'),
        ('cpu,0', 'one kind'),
        ('cpu:0,cpu', 'one kind'),
        ('3', 'cuda:3 must be a GPU'),
        ('gpu', 'gpu'),
    ],
)
def test_lists_that_no_machine_could_follow_are_refused(three_gpus, text, message):
    with pytest.raises(ValueError, match=message):
        parse_devices(text)


def test_workers_take_the_cores_that_devices_leave(monkeypatch):
    monkeypatch.setattr(os, 'sched_getaffinity', lambda pid: set(range(8)), raising=False)
    assert default_workers(('cpu',)) == 8
    assert default_workers(('cuda:0', 'cuda:1')) == 6
    assert default_workers(tuple(f'cuda:{n}' for n in range(9))) == 1


LATE = """
class Late:
    def __init__(self):
        import torch
"""
TORCH = """
class cuda:
    is_available = staticmethod(lambda: True)
    device_count = staticmethod(lambda: 2)
"""


def test_features_of_another_package_that_import_torch_late_get_a_gpu(tmp_path, monkeypatch):
    (tmp_path / 'late_features.py').write_text(LATE)
    (tmp_path / 'torch.py').write_text(TORCH)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, 'torch')  # is there again at the end
    check_labeller(MASKCUT)
    assert 'torch' not in sys.modules
    check_labeller({**MASKCUT, 'features': {'type': 'late_features.Late'}})
    assert resolve_devices(('auto',)) == ('cuda:0', 'cuda:1')


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


@pytest.mark.parametrize(
    ('groups', 'limits', 'expected'),
    [
        ('0::/job\n', {'job/memory.max': '700', 'memory.max': '900'}, 700),
        ('0::/job\n', {'memory.max': '900'}, 900),  # in a container
        ('0::/job/1/step\n', {'job/1/step/memory.max': 'max', 'job/memory.max': '600'}, 600),
        ('0::/\n', {'memory.max': 'max'}, None),
        ('4:memory:/a/b\n3:cpu:/\n', {'memory/a/b/memory.limit_in_bytes': '800'}, 800),
        (None, {}, None),
    ],
)
def test_the_smallest_limit_of_the_control_groups_counts(tmp_path, groups, limits, expected):
    for name, text in limits.items():
        path = tmp_path / 'sys/fs/cgroup' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'{text}\n')
    if groups is not None:
        (tmp_path / 'proc/self').mkdir(parents=True)
        (tmp_path / 'proc/self/cgroup').write_text(groups)
    assert memory_limit(tmp_path) == expected
