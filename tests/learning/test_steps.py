"""What a step took."""

from __future__ import annotations

import time

from cuts3d_mm.learning.training import read_steps, timed


def test_a_run_that_finds_a_step_done_leaves_its_cost_as_it_was(tmp_path):
    path = tmp_path / 'steps.json'
    with timed(path, 'cut'):
        time.sleep(0.02)
    before = read_steps(path)
    with timed(path, 'cut'):
        pass
    assert read_steps(path) == before and before['cut'].seconds >= 0.02
    assert before['cut'].peak_bytes > 0
