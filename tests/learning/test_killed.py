"""A run that is killed again and again ends like one that was left alone."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest
from learning_runs import run, same_weights, write_inputs

MOMENTS = [  # what has just appeared when the run is killed
    'plan.json',
    'pass_1/labels',
    'pass_1/training/iter_1.pth',
    'pass_1/training/round_1/predictions',
    'pass_1/training/iter_4.pth',
    'release/config.py',
]


def kill_when(command, path):
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + 300
    while not path.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert path.exists(), process.communicate()[0].decode()
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()


@pytest.mark.slow
def test_a_run_killed_at_every_step_releases_the_weights_of_an_uninterrupted_one(tmp_path):
    root = write_inputs(tmp_path)
    command = [sys.executable, '-m', 'cuts3d_mm', 'learn', root / 'images', root / 'killed']
    command += ['--config', root / 'generator.py', '--detector', root / 'detector.py']
    command += ['--offline', '--rounds', '1', '--workers', '1']
    for moment in MOMENTS:
        kill_when([str(word) for word in command], root / 'killed' / moment)
    run(root, root / 'killed', rounds=1)
    run(root, root / 'left_alone', rounds=1)
    assert same_weights(root / 'killed', root / 'left_alone')
