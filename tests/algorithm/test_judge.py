from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from drawn import GRID_HW, disc

from cuts3d_mm.algorithm.cut_instances import Proposal, is_the_rest, reason_to_reject
from cuts3d_mm.algorithm.ncut import Bipartition, Eigenpair
from cuts3d_mm.algorithm.params import BackgroundParams, CutParams

PARAMS = replace(CutParams(), background=BackgroundParams())
WALL = np.ones(GRID_HW, bool)
WALL[10:] = False
FAR = np.where(WALL, 0.9, 0.2).astype(np.float32)
OBJECT = disc((9, 13), 3)


def proposal(mask):
    split = Bipartition(mask.ravel(), 0, mask.ravel().astype(float))
    pair = Eigenpair(split.eigenvector, 0.1, 0.1)
    return Proposal(pair, split, mask.ravel(), mask.ravel(), None)


def reason(mask, depth=FAR, params=PARAMS, previous=None):
    before = None if previous is None else proposal(previous)
    return reason_to_reject(proposal(mask), before, 0, depth, params)


def test_a_wall_behind_everything_is_background():
    assert 'background' in reason(WALL)


@pytest.mark.parametrize(
    ('mask', 'depth'),
    [
        (OBJECT, FAR),  # touches no border
        (WALL, 1 - FAR),  # near
        (WALL & (np.arange(GRID_HW[0]) < 4)[:, None], FAR),  # small
        (np.ones(GRID_HW, bool), FAR),  # nothing is left to be in front of it
    ],
)
def test_other_cuts_are_no_background(mask, depth):
    assert reason(mask, depth) is None


def test_without_depth_or_without_the_rule_nothing_is_background():
    assert reason(WALL, None) is None
    assert reason(WALL, params=replace(PARAMS, background=None)) is None


def test_a_small_cut_and_the_same_cut_again_are_rejected():
    assert 'must be above 1.0%' in reason(disc((9, 13), 0.5))
    assert reason(OBJECT, previous=OBJECT) == 'IoU with the previous instance above 0.5'
    assert reason(OBJECT, previous=disc((3, 4), 3)) is None


def test_what_all_cuts_have_left_is_the_rest():
    is_free = ~OBJECT.ravel()
    assert is_the_rest(proposal(~OBJECT), is_free, PARAMS)
    assert not is_the_rest(proposal(~OBJECT), np.ones_like(is_free), PARAMS)
    assert not is_the_rest(proposal(WALL), is_free, PARAMS)
