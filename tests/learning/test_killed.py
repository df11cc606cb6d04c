"""A run that is killed again and again ends like one that was left alone."""

from __future__ import annotations

from signal import SIGKILL

import pytest
from forked_commands import exit_code_of, start_fork
from learning_runs import run, same_weights, write_inputs
from stopped_runs import output_of, start, stop, wait_until

# What has just appeared when the run is killed, in order.
BEFORE_TRAINING = 'plan.json', 'pass_1/labels'
IN_TRAINING = 'pass_1/training/iter_1.pth'
LATER = (
    'pass_1/training/round_1/predictions',
    'pass_1/training/iter_4.pth',
    'release/config.py',
)


def kill_at(root, moments):
    for moment in moments:
        out = root / 'killed'
        killed = start_fork(run, root, out, dies_at=out / moment, rounds=1)
        assert exit_code_of(killed) == -SIGKILL
        assert (out / moment).exists()


def kill_command_at(root, moment):
    """Kill the command itself; the training that it has started must end with it."""
    out = root / 'killed'
    configs = ('--config', root / 'generator.py', '--detector', root / 'detector.py')
    options = ('--offline', '--rounds', 1, '--workers', 0)
    process = start('learn', root / 'images', out, *configs, *options)
    assert wait_until(process, (out / moment).exists), output_of(process)
    stop(process, SIGKILL, whole_group=False)


@pytest.mark.slow
def test_a_run_killed_at_every_step_releases_the_weights_of_an_uninterrupted_one(tmp_path):
    root = write_inputs(tmp_path)
    kill_at(root, BEFORE_TRAINING)
    kill_command_at(root, IN_TRAINING)
    kill_at(root, LATER)
    run(root, root / 'killed', rounds=1)
    run(root, root / 'left_alone', rounds=1)
    assert same_weights(root / 'killed', root / 'left_alone')
