"""Killed at random and started again, a run ends with the labels of an undisturbed one."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import pytest
from image_folders import write_images

from cuts3d_mm.labels.coco import write_coco
from cuts3d_mm.labels.store import read_store

NUM_IMAGES, NUM_KILLS = 60, 10


def command(images, out):
    config = ['maskcut_color-texture.py', str(images), str(out), '--workers', '2']
    options = ['--cfg-options', 'model.input_hw=(240,320)', 'model.features.num_frequencies=64']
    return [sys.executable, '-m', 'cuts3d_mm', 'generate', *config, *options]


def export(out):
    write_coco(out / 'labels.json', lambda: read_store(out))
    return (out / 'labels.json').read_bytes()


def kill_once(images, out, num_shards, delay_s, sign):
    """Kill a run some time after it has so many shards; False if it ended before."""
    process = subprocess.Popen(
        command(images, out), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    while len(list(out.glob('labels-*.parquet'))) < num_shards and process.poll() is None:
        time.sleep(0.01)
    try:
        process.wait(delay_s)
        return False
    except subprocess.TimeoutExpired:
        os.kill(process.pid, sign)
        process.wait()
        return True


@pytest.mark.slow
@pytest.mark.skipif(os.name != 'posix', reason='needs POSIX signals')
def test_ten_random_kills_do_not_change_a_byte(tmp_path, rng):
    images = tmp_path / 'images'
    write_images(images, NUM_IMAGES, rng, (90, 130))
    subprocess.run(command(images, tmp_path / 'whole'), check=True, capture_output=True)
    num_shards = len(list((tmp_path / 'whole').glob('labels-*.parquet')))
    chance = random.Random(0)
    killed = 0
    # By shards, not by the clock: how fast a run is depends on what runs beside it.
    for index, reached in enumerate(sorted(chance.choices(range(num_shards), k=NUM_KILLS))):
        sign = signal.SIGTERM if index % 5 == 4 else signal.SIGKILL
        delay_s = chance.uniform(0, 1 if reached else 6)
        killed += kill_once(images, tmp_path / 'killed', reached, delay_s, sign)
    subprocess.run(command(images, tmp_path / 'killed'), check=True, capture_output=True)
    assert killed >= 1
    assert export(tmp_path / 'killed') == export(tmp_path / 'whole')
    assert not list((tmp_path / 'killed').glob('.*partial'))
