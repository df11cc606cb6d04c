from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cuts3d_mm.algorithm.params import ScoreParams
from cuts3d_mm.algorithm.score import (
    border_contrast,
    border_share,
    mask_signals,
    plane_residual,
    score_mask,
)

PARAMS, GRID_HW = ScoreParams(), (12, 20)
ROWS, COLUMNS = np.mgrid[: GRID_HW[0], : GRID_HW[1]]
SQUARE = (ROWS >= 4) & (ROWS < 8) & (COLUMNS >= 6) & (COLUMNS < 12)
EVERYWHERE = np.ones(GRID_HW, bool)


def signals_of(depth, mask=SQUARE, refined_iou=0.9, eigenvalue=0.1):
    inputs = mask, mask.astype(np.float32), depth, refined_iou, eigenvalue
    signals = mask_signals(*inputs, PARAMS)
    return signals, score_mask(signals, PARAMS)


def test_contrast_is_the_border_step_over_the_relief_inside():
    depth = np.where(SQUARE, 0.02 * COLUMNS, 0.9).astype(np.float32)
    steps = [abs(depth[r, c] - 0.9) for r in range(4, 8) for c in (6, 11)]
    steps += [abs(depth[r, c] - 0.9) for r in (4, 7) for c in range(6, 12)]
    inside = [0.02] * (4 * 5) + [0.0] * (3 * 6)
    expected = np.median(steps) / (np.percentile(inside, 90) + 0.01)
    assert border_contrast(SQUARE, EVERYWHERE, depth, 0.01) == pytest.approx(expected, rel=1e-5)


def test_an_object_before_the_wall_scores_above_a_hole_in_it():
    object_depth = np.where(SQUARE, 0.2, 0.8).astype(np.float32)
    in_front, score = signals_of(object_depth)
    hole, hole_score = signals_of(1 - object_depth)
    assert in_front['in_front'] == pytest.approx(1) and hole['in_front'] == pytest.approx(-1)
    assert in_front['log_contrast'] == pytest.approx(hole['log_contrast'])
    assert 0 < hole_score < score < 1


def test_without_depth_a_mask_is_scored_as_on_a_flat_scene():
    assert signals_of(None) == signals_of(np.full(GRID_HW, 0.3, np.float32))


def test_the_score_is_the_logistic_function_of_the_signals():
    depth = np.where(SQUARE, 0.2, 0.8).astype(np.float32)
    signals, score = signals_of(depth)
    logit = PARAMS.bias + sum(getattr(PARAMS, name) * value for name, value in signals.items())
    assert score == pytest.approx(1 / (1 + np.exp(-logit)))
    changed = replace(PARAMS, bias=PARAMS.bias + 1)
    assert score_mask(signals, changed) > score


def test_border_share_counts_sides_of_patches():
    assert border_share(SQUARE) == 0
    corner = (ROWS < 3) & (COLUMNS < 5)  # 8 of its 16 sides lie on the borders
    assert border_share(corner) == pytest.approx(0.5)


def test_a_floor_is_a_plane_in_inverse_depth_and_a_ball_is_not():
    floor = (0.05 * ROWS + 0.01 * COLUMNS).astype(np.float32)
    assert plane_residual(floor, EVERYWHERE, 0.9) < 1e-5
    ball = np.sqrt(np.maximum(36 - (ROWS - 6) ** 2 - (COLUMNS - 10) ** 2, 0)).astype(np.float32)
    assert plane_residual(ball / 6, ball > 0, 0.9) > 0.05
