"""Scale depth, bring it to the patch grid, and turn it into points."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cuts3d_mm.arrays import Float

from .params import DepthFunction

INLIER_PERCENTILES = (2, 98)  # the depths between them are taken as the scene itself
# Share of the range that is added to the disparity; without it the farthest pixel would lie at
# infinity and flatten all others. With 0.1 it lies 11 times as far as the nearest [O].
FLOOR = 0.1


def normalize_depth(
    depth: Float, outlier_spans: float | None = None, function: DepthFunction = 'metric'
) -> Float:
    """Scale a depth map to [0, 1] by its own range; a constant map becomes zero.

    Args:
        depth: (H, W) finite depth in any unit, larger is farther.
        outlier_spans: depths farther outside the range of the middle 96 % of the pixels than
            this many times its span are clipped, at least 0. Otherwise a few far points of a
            sensor would flatten all other depths. None: no clipping. What fills less than 2 % of
            the image and lies farther away than that is clipped too.
    """
    if depth.ndim != 2 or depth.size == 0:
        raise ValueError(f'depth must have shape (H, W), got {depth.shape}')
    if not np.isfinite(depth).all():
        raise ValueError('depth must be finite, got NaN or inf; fill invalid pixels first')
    low, high = float(depth.min()), float(depth.max())
    if outlier_spans is not None:
        near, far = (float(value) for value in np.percentile(depth, INLIER_PERCENTILES))
        margin = outlier_spans * (far - near)
        if near < far:  # else it is one depth almost everywhere: keep the rest
            low, high = max(low, near - margin), min(high, far + margin)
    if high <= low:
        return np.zeros(depth.shape, np.float32)
    if function != 'metric':
        depth = apply_depth_function(np.clip(depth, low, high), function)
        low, high = float(depth.min()), float(depth.max())
    return np.clip((depth - low) / (high - low), 0, 1).astype(np.float32)


def resize_depth(depth: Float, grid_hw: tuple[int, int]) -> Float:
    """Bring an (H, W) depth map to the patch grid.

    The depth at each patch centre is taken; an average over the patch would invent depths
    between two surfaces.
    """
    rows, columns = (patch_centres(n, g) for n, g in zip(depth.shape, grid_hw, strict=True))
    return np.ascontiguousarray(depth[rows[:, None], columns])


def patch_centres(size: int, cells: int) -> NDArray[np.intp]:
    """Pixels at the centres of the patches along a side."""
    return np.minimum(((np.arange(cells) + 0.5) * size / cells).astype(np.intp), size - 1)


def apply_depth_function(depth: Float, function: DepthFunction) -> Float:
    """Take the logarithm or the negative inverse of (h, w) depth, which spreads what is near.

    Relative depth, whose nearest value is not positive, is shifted first: its nearest value then
    lies at a tenth of the range.
    """
    if function == 'metric':
        return depth
    nearest = float(depth.min())
    shift = 0.0 if nearest > 0 else FLOOR * float(np.ptp(depth)) - nearest
    positive = np.maximum(depth.astype(np.float64) + shift, 1e-12)
    return (np.log(positive) if function == 'log' else -1 / positive).astype(np.float32)


def depth_from_disparity(disparity: Float) -> Float:
    """Invert (H, W) finite disparity that is known up to scale and shift.

    Returns:
        (H, W) depth from 1 / 1.1 to 10; zero everywhere for constant disparity.
    """
    low, high = float(disparity.min()), float(disparity.max())
    if high <= low:
        return np.zeros(disparity.shape, np.float32)
    nearness = (disparity.astype(np.float64) - low) / (high - low)
    return (1 / (nearness + FLOOR)).astype(np.float32)


def project_depth(depth: Float) -> Float:
    """Unproject (h, w) depth in [0, 1] orthographically, to (h * w, 3) points x, y, z.

    x and y are divided by the longer side of the grid, so that the cloud spans [0, 1] and
    patches stay square; only in this unit do the published thresholds make sense (at 60
    patches a threshold of 0.115 is 6.8 patches in the plane, or 11.5 % of the depth range).
    """
    height, width = depth.shape
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    longest = max(height, width, 2) - 1
    return np.stack([columns / longest, rows / longest, depth], axis=-1).reshape(-1, 3)
