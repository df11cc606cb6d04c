"""Runs of `cuts3d learn` on a few drawn images, with a detector that trains in seconds."""

from __future__ import annotations

import subprocess
from pathlib import Path
from unittest.mock import patch

import numpy as np
from drawn import disc
from forked_commands import run_forked
from PIL import Image
from safetensors.numpy import load_file
from training_runs import SMALL

from cuts3d_mm.configs import load_config, read_generator_config
from cuts3d_mm.learning.loop import learn
from cuts3d_mm.learning.plan import Request

IMAGE_HW = (60, 90)
INITIAL, ROUND = 3, 2  # steps
CONFIG = 'cuts3d_tiny-cascade-mask-rcnn_r18_scenes-self-training'
# Detectors that have learnt next to nothing give low scores.
OPTIONS = [
    *SMALL,
    'schedule_images=5',
    f'train_cfg.rounds.0.begin={INITIAL}',
    f'train_cfg.rounds.1.begin={INITIAL + ROUND}',
    f'train_cfg.max_iters={INITIAL + 2 * ROUND}',
    *(f'train_cfg.rounds.{number}.score_thr=0.02' for number in (0, 1)),
    'train_cfg.max_per_image=3',
    'custom_hooks.1.num_iters=1',
    *(f'{part}_dataloader.num_workers=0' for part in ('train', 'val', 'test')),
    *(f'{part}_dataloader.persistent_workers=False' for part in ('train', 'val', 'test')),
]


def write_photos(folder: Path, count: int = 6, first: int = 0) -> Path:
    """Images with two coloured discs each, on a textured ground."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(first, first + count):
        rng = np.random.default_rng(number)
        image = rng.integers(0, 40, (*IMAGE_HW, 3), dtype=np.uint8)
        for index in (0, 1):
            center = 30 + rng.integers(-8, 8), 25 + 40 * index
            image[disc(center, 14, IMAGE_HW)] = rng.integers(90, 255, 3)
        Image.fromarray(image).save(folder / f'{number:03d}.png')
    return folder


def write_detector(path: Path) -> str:
    """A detector that trains in seconds; its config."""
    path.write_text(load_config(CONFIG, OPTIONS).pretty_text)
    return str(path)


def write_inputs(root: Path, count: int = 6) -> Path:
    """Images and configs, of a generator and a detector that are quick."""
    write_photos(root / 'images', count)
    write_detector(root / 'detector.py')
    generator = read_generator_config('maskcut_color-texture', ['model.input_hw=(64,96)'])
    (root / 'generator.py').write_text(generator.pretty_text)
    return root


def run(root: Path, out: Path, **changes) -> list[str]:
    """Learn in this process from `root`, where the images and configs are."""
    said: list[str] = []
    options = {'offline': True, 'workers': 0, **changes}
    configs = {'config': str(root / 'generator.py'), 'detector': str(root / 'detector.py')}
    request = Request(root / 'images', out, **configs, **options)
    with patch('cuts3d_mm.learning.training.run_command_in_child', _train_in_fork):
        learn(request, said.append)
    return said


def same_weights(one: Path, other: Path) -> bool:
    """Whether two runs have released the same weights, to the bit."""
    first, second = (load_file(out / 'release/model.safetensors') for out in (one, other))
    return first.keys() == second.keys() and all(
        np.array_equal(first[name], second[name]) for name in first
    )


def _train_in_fork(command, report, _variables):
    done = run_forked(command)
    output = done.stdout + done.stderr
    for line in output.splitlines():
        report(line)
    return subprocess.CompletedProcess(command, done.returncode, output)
