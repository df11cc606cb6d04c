"""Turn a depth map on the patch grid into one 3D point per patch (Sec. 3.2)."""

from __future__ import annotations

import numpy as np

from cuts3d_mm.arrays import Float


def project_depth(depth: Float) -> Float:
    """Unproject depth orthographically.

    x and y are divided by the longer side of the grid, so that the cloud spans [0, 1] and
    patches stay square; only in this unit do the published thresholds make sense (at 60
    patches a threshold of 0.115 is 6.8 patches in the plane, or 11.5 % of the depth range).

    Args:
        depth: (h, w) in [0, 1], larger is farther.

    Returns:
        (h * w, 3) points x, y, z in row-major patch order.
    """
    height, width = depth.shape
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    longest = max(height, width, 2) - 1
    return np.stack([columns / longest, rows / longest, depth], axis=-1).reshape(-1, 3)
