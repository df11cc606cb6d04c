"""A detection that is killed, and so cannot finish its files, leaves what it found."""

from __future__ import annotations

import json
import os
from signal import SIGKILL

import numpy as np
import pytest
from helpers.commands import StartedFork, stop, wait_until
from helpers.drawn import write_images
from helpers.tiny_detectors import write_checkpoint

from cuts3d_mm.labels.store import read_store

pytestmark = pytest.mark.skipif(os.name != 'posix', reason='needs POSIX signals')


@pytest.mark.slow
def test_a_killed_detection_keeps_what_it_found(tmp_path):
    write_images(tmp_path / 'in', 400, np.random.default_rng(0))
    model = write_checkpoint(tmp_path / 'iter_1.pth')
    weights = ('--weights', tmp_path / 'iter_1.pth', '--device', 'cpu', '--score-thr', 0)
    out = tmp_path / 'out'
    found = out / 'detections.json'
    process = StartedFork('detect', tmp_path / 'in', '--model', model, *weights, '--out', out)
    assert wait_until(
        process, lambda: found.is_file() and json.loads(found.read_text())['annotations']
    )
    stop(process, SIGKILL)
    names = [image['file_name'] for image in json.loads(found.read_text())['images']]
    assert 0 < len(names) < 400
    assert all((out / 'pictures' / name).is_file() for name in names)
    stored = [record.name for record in read_store(out / 'labels')]
    assert stored[: len(names)] == names  # the labels are written just before the JSON
