"""Turn disparity into depth."""

from __future__ import annotations

import numpy as np

from cuts3d_mm.arrays import Float

# Share of the range that is added to the disparity; without it the farthest pixel would lie at
# infinity and flatten all others. With 0.1 it lies 11 times as far as the nearest [O].
_FLOOR = 0.1


def depth_from_disparity(disparity: Float) -> Float:
    """Invert disparity that is known up to scale and shift.

    Args:
        disparity: (H, W) finite, larger is nearer.

    Returns:
        (H, W) depth from 1 / 1.1 to 10; zero everywhere for constant disparity.
    """
    low, high = float(disparity.min()), float(disparity.max())
    if high <= low:
        return np.zeros(disparity.shape, np.float32)
    nearness = (disparity.astype(np.float64) - low) / (high - low)
    return (1 / (nearness + _FLOOR)).astype(np.float32)
