"""Score an instance by what its cut knows, so that good masks come first."""

from __future__ import annotations

import numpy as np

from cuts3d_mm.arrays import Float, Mask

from .params import ScoreParams

_RELIEF_PERCENTILE = 90  # of the depth steps inside a mask
_SMALLEST_AREA = 1e-4  # share of the grid; only keeps the logarithm finite


def score_mask(
    patches: Mask,
    confidence: Float,
    depth: Float | None,
    refined_iou: float,
    params: ScoreParams,
) -> float:
    """Estimate the chance that a mask overlaps an object by an IoU of at least 0.5.

    A logistic model of five signals: mean confidence of the patches, contrast of the depth at
    the border, overlap before and after the refinement, share of the outline that lies on the
    borders of the image, and area.

    Args:
        patches: (h, w) the cut, at least one patch.
        confidence: (h, w) in [0, 1].
        depth: (h, w) in [0, 1]; None for a recipe that uses none, whose contrast is 0.
        refined_iou: IoU of the mask before and after the refinement, in [0, 1].
        params: coefficients of the model.

    Returns:
        Score in (0, 1).
    """
    contrast = 0.0
    if depth is not None:
        contrast = border_contrast(patches, np.ones_like(patches), depth, params.step_floor)
    logit = (
        params.bias
        + params.confidence * float(confidence[patches].mean())
        + params.log_contrast * float(np.log1p(min(contrast, params.max_contrast)))
        + params.refined_iou * refined_iou
        + params.border_share * border_share(patches)
        + params.log_area * float(np.log(max(patches.mean(), _SMALLEST_AREA)))
    )
    return float(1 / (1 + np.exp(-logit)))


def border_contrast(mask: Mask, around: Mask, depth: Float, step_floor: float) -> float:
    """Compare the depth steps along the border of a mask with the relief inside it.

    Args:
        mask: (h, w).
        around: (h, w) patches that the border may lead to, the mask included.
        depth: (h, w) in [0, 1].
        step_floor: depth added to the relief, so that a flat mask has a finite contrast.

    Returns:
        Median step along the border over the 90th percentile of the steps inside plus the floor;
        0 for a mask without a border.
    """
    border, inside = depth_steps(mask, around, depth)
    if border.size == 0:
        return 0.0
    relief = float(np.percentile(inside, _RELIEF_PERCENTILE)) if inside.size else 0.0
    return float(np.median(border)) / (relief + step_floor)


def depth_steps(mask: Mask, around: Mask, depth: Float) -> tuple[Float, Float]:
    """Depth steps between touching patches: over the border of a mask, and inside it."""
    border, inside = [], []
    for axis in (0, 1):
        step = np.abs(np.diff(depth, axis=axis))
        (mask_a, mask_b), (in_a, in_b) = (_ends(array, axis) for array in (mask, around))
        border.append(step[(mask_a != mask_b) & in_a & in_b])
        inside.append(step[mask_a & mask_b])
    return np.concatenate(border), np.concatenate(inside)


def border_share(mask: Mask) -> float:
    """Share of the outline of a mask, in sides of patches, that lies on the image borders."""
    on_border = sum(int(side.sum()) for side in (mask[0], mask[-1], mask[:, 0], mask[:, -1]))
    inner = sum(int(np.count_nonzero(a != b)) for a, b in (_ends(mask, 0), _ends(mask, 1)))
    return on_border / max(on_border + inner, 1)


def _ends(array: Mask, axis: int) -> tuple[Mask, Mask]:
    """Both ends of all pairs of neighbours along an axis."""
    length = array.shape[axis]
    return array.take(range(length - 1), axis), array.take(range(1, length), axis)


def plane_residual(disparity: Float, mask: Mask, share: float) -> float:
    """Tell how far a mask lies from a plane: a plane seen by a camera has 1 / z linear in x, y.

    Args:
        disparity: (h, w) 1 / z, scaled to [0, 1] over the image.
        mask: (h, w) at least one patch.
        share: share of the patches that must lie within the residual, in (0, 1].

    Returns:
        Largest distance from the plane among that share of the patches, in units of the whole
        disparity range.
    """
    rows, columns = np.nonzero(mask)
    places = np.stack([rows, columns, np.ones_like(rows)], axis=1).astype(np.float64)
    values = disparity[mask].astype(np.float64)
    is_kept = np.ones(len(values), bool)
    for _ in range(3):  # patches off the plane must not tilt it
        plane, *_ = np.linalg.lstsq(places[is_kept], values[is_kept], rcond=None)
        distance = np.abs(places @ plane - values)
        limit = float(np.quantile(distance, share))
        is_kept = distance <= limit
    return limit
