"""Measure from depth how close each patch lies to a 3D edge (Eq. 1-2)."""

from __future__ import annotations

import numpy as np

from cuts3d_mm.algorithm.params import ImportanceParams
from cuts3d_mm.arrays import Float


def spatial_importance(depth: Float, params: ImportanceParams) -> Float:
    """Mark the patches whose depth differs from its blurred neighbourhood.

    Args:
        depth: (h, w) depth on the patch grid in [0, 1], larger is farther.

    Returns:
        (h, w) importance in [beta, 1]; beta everywhere where the depth is constant.
    """
    from scipy.ndimage import gaussian_filter  # a quarter of a second to import

    if not 0 <= params.beta < 1:
        raise ValueError(f'beta must lie in [0, 1), got {params.beta}')
    blurred = gaussian_filter(depth, params.sigma_patches, mode='nearest')
    difference = np.abs(blurred - depth)  # Eq. 1
    low, high = difference.min(), difference.max()
    # Blurring a constant map leaves rounding noise, which Eq. 2 would blow up to [beta, 1].
    if high - low <= 1e-6:
        return np.full(depth.shape, params.beta, np.float32)
    scaled = (difference - low) / (high - low)
    return ((1 - params.beta) * scaled + params.beta).astype(np.float32)  # Eq. 2
