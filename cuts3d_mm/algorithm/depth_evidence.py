"""Decide whether the border that LocalCut has drawn lies on a step of the depth."""

from __future__ import annotations

import numpy as np

from cuts3d_mm.algorithm.local_cut_params import EvidenceParams
from cuts3d_mm.arrays import Float, Mask

_RELIEF_PERCENTILE = 90  # of the depth steps inside a cut
_TIE = 1e-4  # quantised depths tie exactly; rounding noise must not decide


def is_supported(mask: Mask, component: Mask, depth: Float, params: EvidenceParams) -> bool:
    """Tell whether depth supports cutting a mask out of its 2D component.

    It does if the mask keeps a fair share of the component and the depth step along the new
    border is large, both by itself and against the relief inside the mask.

    Args:
        mask: (h, w) the cut, inside the component.
        component: (h, w) what a cut in 2D gives.
        depth: (h, w) in [0, 1].

    Returns:
        True also where the mask is the whole component.
    """
    if np.count_nonzero(mask) < params.min_share * np.count_nonzero(component):
        return False
    border, inside = _depth_steps(mask, component, depth)
    if border.size == 0:
        return True
    step = float(np.median(border))
    relief = float(np.percentile(inside, _RELIEF_PERCENTILE)) if inside.size else 0.0
    return step > max(params.min_depth_step, params.min_contrast * relief) + _TIE


def _depth_steps(mask: Mask, component: Mask, depth: Float) -> tuple[Float, Float]:
    """Depth steps between touching patches of a component: over the border, and in the mask."""
    border, inside = [], []
    for axis in (0, 1):
        step = np.abs(np.diff(depth, axis=axis))
        ends = [_without(array, axis) for array in (mask, component)]
        (mask_a, mask_b), (in_a, in_b) = ends
        border.append(step[(mask_a != mask_b) & in_a & in_b])
        inside.append(step[mask_a & mask_b])
    return np.concatenate(border), np.concatenate(inside)


def _without(array: Mask, axis: int) -> tuple[Mask, Mask]:
    """Both ends of all pairs of neighbours along an axis."""
    length = array.shape[axis]
    return array.take(range(length - 1), axis), array.take(range(1, length), axis)
