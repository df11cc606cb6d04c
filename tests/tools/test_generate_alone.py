"""Cutting needs neither MMDetection nor, with the embedded config, torch."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from helpers.commands import environment_without
from PIL import Image

from cuts3d_mm.labels.store import read_store
from cuts3d_mm.scenes.rendering import render_scenes

CONFIG = 'cuts3d_color-texture_file-depth'
MEAN_COLOR = """
import numpy as np

class MeanColor:
    def to(self, device):
        return self

    def __call__(self, images):
        grids = [image.reshape(30, 16, 30, 16, 3).mean((1, 3)) for image in images]
        return [(grid / np.linalg.norm(grid, axis=-1, keepdims=True)) for grid in grids]
"""


@pytest.fixture
def folder(tmp_path):
    for name in ('images', 'depth'):
        (tmp_path / name).mkdir()
    for scene in render_scenes(2, seed=3):
        Image.fromarray(scene.image).save(tmp_path / 'images' / scene.name)
        np.save((tmp_path / 'depth' / scene.name).with_suffix('.npy'), scene.depth)
    return tmp_path


def generate(folder, environment, *options):
    command = [sys.executable, '-m', 'cuts3d_mm', 'generate', CONFIG, 'images', 'out']
    command += ['--depth', 'depth', *options]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_it_cuts_where_neither_mmdetection_nor_torch_can_be_imported(folder):
    run = generate(folder, environment_without(folder, 'mmdet', 'mmcv', 'mmpretrain', 'torch'))
    assert run.returncode == 0, run.stderr
    records = list(read_store(folder / 'out'))
    assert len(records) == 2 and any(record.instances for record in records)
    assert all(record.failure is None for record in records)


@pytest.mark.slow
def test_features_of_another_package_are_one_file_and_their_full_name(folder):
    (folder / 'my_features.py').write_text(MEAN_COLOR)
    environment = environment_without(folder, 'mmdet', 'mmcv', 'torch')
    features = ['model.features.type=my_features.MeanColor', 'model.features._delete_=True']
    run = generate(folder, environment, '--cfg-options', *features)
    assert run.returncode == 0, run.stderr
    assert len(list(read_store(folder / 'out'))) == 2
    assert np.isfinite([i.score for r in read_store(folder / 'out') for i in r.instances]).all()
