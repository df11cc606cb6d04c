"""Split the graph of linked patches in two by its second eigenvector.

Normalized Cut relaxes to (D - W) x = lambda D x.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cuts3d_mm.algorithm.eigensolvers import (
    ROUNDING,
    NormalizedAffinity,
    dense_eigenpairs,
    strongest_below_first,
)
from cuts3d_mm.algorithm.packed_links import PackedLinks
from cuts3d_mm.algorithm.params import NcutParams
from cuts3d_mm.arrays import Double, Mask


@dataclass(frozen=True)
class Eigenpair:
    """Second smallest generalized eigenpair of (D - W, D)."""

    vector: Double  # (N,) of length 1, its sign as `NcutParams.sign` says
    value: float  # lambda2
    gap: float  # estimate of lambda3 - lambda2; near 0 the vector is not unique


@dataclass(frozen=True)
class Bipartition:
    """A two-way split of the patches after MaskCut's foreground rules."""

    foreground: Mask  # (N,)
    seed: int  # index of the strongest foreground patch
    eigenvector: Double  # (N,) larger means more foreground


def second_eigenvector(links: PackedLinks, is_free: Mask, params: NcutParams) -> Eigenpair | None:
    """Solve Normalized Cut on the linked patches.

    Args:
        links: the graph of N patches.
        is_free: (N,) False for patches that an instance has claimed; their links count as
            missing, they themselves stay in the graph (as zeroed features in MaskCut).

    Returns:
        The eigenpair, or None where no cut exists: all patches are alike.

    Raises:
        NoConvergence: no solver finds the eigenvector.
    """
    if len(links) < 2:
        return None
    operator = NormalizedAffinity(links, is_free, params.epsilon)
    if params.sign == 'lapack':
        return _solve_as_maskcut(operator)
    vector, value, gap = strongest_below_first(operator, params)
    if value < ROUNDING:  # W is constant but for the first eigenvector
        return None
    vector = vector * operator.inverse_root
    if vector[np.argmax(np.abs(vector))] < 0:
        vector = -vector
    return Eigenpair(vector / np.linalg.norm(vector), 1 - value, gap)


def split_foreground(eigenvector: Double, grid_hw: tuple[int, int]) -> Bipartition:
    """Choose the foreground side by MaskCut's rules.

    Patches above the mean are foreground. The sides are swapped where the foreground holds
    three or more of the four image corners, or else not the strongest patch.

    Args:
        eigenvector: (N,) with N = h * w.
        grid_hw: (h, w) of the patch grid.
    """
    foreground = eigenvector > eigenvector.mean()
    height, width = grid_hw
    corners = [0, width - 1, (height - 1) * width, height * width - 1]
    seed = int(np.argmax(np.abs(eigenvector)))
    if foreground[corners].sum() >= 3 or not foreground[seed]:
        foreground, eigenvector = ~foreground, -eigenvector
    return Bipartition(foreground, int(np.argmax(eigenvector)), eigenvector)


def _solve_as_maskcut(operator: NormalizedAffinity) -> Eigenpair | None:
    """Solve (D - W) x = lambda D x densely and leave the sign as LAPACK returns it."""
    affinity = operator.dense_affinity()
    degree = np.diag(affinity.sum(axis=1))
    values, vectors = dense_eigenpairs(degree - affinity, degree, subset_by_index=[1, 2])
    if 1 - values[0] < ROUNDING:  # W is constant but for the first eigenvector
        return None
    vector = vectors[:, 0] / np.linalg.norm(vectors[:, 0])
    return Eigenpair(vector, float(values[0]), float(values[1] - values[0]))
