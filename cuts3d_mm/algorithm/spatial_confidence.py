"""Measure how steadily each patch is cut out together with its instance (Eq. 4)."""

from __future__ import annotations

import numpy as np

from cuts3d_mm.algorithm.local_cut import Cloud, cut_cloud, tie_terminals
from cuts3d_mm.algorithm.local_cut_params import ConfidenceParams, LocalCutParams
from cuts3d_mm.arrays import Float, Mask


def spatial_confidence(
    cloud: Cloud,
    mask: Mask,
    grid_hw: tuple[int, int],
    local_cut: LocalCutParams,
    params: ConfidenceParams,
) -> Float:
    """Average LocalCut over thresholds from tau_min to tau_knn.

    The instance itself counts as the cut at tau_knn, also where it is the 2D component.
    The lower bound SC_min is applied where the confidence is used, not here.

    Args:
        cloud: of the instance's semantic mask.
        mask: (N,) the instance.
        local_cut: how it was cut.
        params: which cuts are averaged.

    Returns:
        (N,) confidence: in [1 / num_cuts, 1] inside the mask, 0 outside.
    """
    if params.num_cuts < 1:
        raise ValueError(f'num_cuts must be at least 1, got {params.num_cuts}')
    between = np.linspace if params.spacing == 'linear' else np.geomspace
    lowest = params.tau_min_ratio * local_cut.tau_knn
    thresholds = between(lowest, local_cut.tau_knn, params.num_cuts)[:-1]
    if params.terminal_fraction is not None:
        cloud = tie_terminals(cloud, params.terminal_fraction)
    agreement = mask.astype(np.float32)
    for tau in thresholds:
        agreement += cut_cloud(cloud, tau, grid_hw, local_cut)
    return np.where(mask, agreement / params.num_cuts, 0).astype(np.float32)
