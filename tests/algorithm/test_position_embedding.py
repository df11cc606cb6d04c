from __future__ import annotations

import numpy as np
import pytest
import torch
from reference import dino_positions

from cuts3d_mm.labellers.features.vit import interpolate_positions

TRAINED_HW, GRID_HW = (7, 5), (12, 16)


@pytest.fixture
def positions():
    torch.manual_seed(0)
    return torch.randn(1, 2 + 35, 3)


@pytest.mark.parametrize('offset', [0.1, 0.0])
def test_positions_equal_the_formula(positions, offset):
    found = interpolate_positions(positions, TRAINED_HW, GRID_HW, offset)
    grid = positions[0, 2:].reshape(*TRAINED_HW, 3).double().numpy()
    expected = dino_positions(grid, GRID_HW, offset).reshape(-1, 3)
    assert found.shape == (1, 2 + 192, 3)
    assert np.abs(found[0, 2:].numpy() - expected).max() < 1e-5


def test_other_tokens_and_the_trained_grid_are_kept(positions):
    found = interpolate_positions(positions, TRAINED_HW, GRID_HW, 0.1)
    assert (found[:, :2] == positions[:, :2]).all()
    assert interpolate_positions(positions, TRAINED_HW, TRAINED_HW, 0.1) is positions


@pytest.mark.parametrize('side', [14, 28])
@pytest.mark.parametrize('new', [1, 13, 30, 60, 97])
def test_any_side_gets_its_own_number_of_patches(side, new):
    positions = torch.zeros(1, 1 + side * side, 1)
    assert interpolate_positions(positions, (side, side), (new, 60), 0.1).shape[1] == 1 + new * 60


def test_half_precision_stays_half(positions):
    found = interpolate_positions(positions.bfloat16(), TRAINED_HW, GRID_HW, 0.1)
    assert found.dtype == torch.bfloat16


def test_a_wrong_trained_grid_is_refused(positions):
    with pytest.raises(ValueError, match='positions must hold at least 8 x 5 patches, got 37'):
        interpolate_positions(positions, (8, 5), GRID_HW, 0.1)
