from __future__ import annotations

import pytest

from cuts3d_mm.files.stored_run import RunMismatch, require_same_run

BEFORE = {'model': {'depth': None, 'size': 480}, 'weights': 'a' * 64, 'seed': 0}


def test_the_run_that_a_folder_began_with_goes_on():
    require_same_run('out', 'labels', BEFORE, {**BEFORE}, 'choose another OUT')


def test_three_differences_are_said_names_first_with_the_remedy():
    depth = {'root': 'x' * 99, 'type': 'Depth'}
    now = {'weights': 'b' * 64, 'model': {'depth': depth, 'size': list(range(99)), 'new': 1}}
    with pytest.raises(RunMismatch) as refusal:
        require_same_run('out', 'labels', BEFORE, now, 'choose another OUT', ['1 image more: x'])
    assert str(refusal.value) == (
        'out holds labels of another run; differing: model.depth: None -> Depth; '
        'weights: aaaaaaaaaaaa... -> bbbbbbbbbbbb...; '
        'model.size: 480 -> [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 1...; and 3 more; '
        'choose another OUT'
    )
