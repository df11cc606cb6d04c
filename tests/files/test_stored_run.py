from __future__ import annotations

import pytest

from cuts3d_mm.files.stored_run import RunMismatch, require_same_run

BEFORE = {'model': {'depth': None, 'size': 480}, 'weights': 'a' * 64, 'seed': 0}


def test_the_run_that_a_folder_began_with_goes_on():
    require_same_run('out', 'labels', BEFORE, {**BEFORE}, 'choose another OUT')


def test_every_difference_is_said_with_the_remedy():
    now = {'model': {'depth': {}, 'size': 480, 'new': 1}, 'weights': 'b' * 64}
    with pytest.raises(RunMismatch) as refusal:
        require_same_run('out', 'labels', BEFORE, now, 'choose another OUT', ['1 image more: x'])
    assert str(refusal.value) == (
        'out holds labels of another run; differing: model.depth: None -> {}; '
        "model.new: 'not set' -> 1; weights: aaaaaaaaaaaa... -> bbbbbbbbbbbb...; "
        "seed: 0 -> 'not set'; 1 image more: x; choose another OUT"
    )
