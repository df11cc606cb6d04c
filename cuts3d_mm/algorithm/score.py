"""Score an instance by what its cut knows, so that good masks come first."""

from __future__ import annotations

import numpy as np

from cuts3d_mm.arrays import Float, Mask

from .params import ScoreParams

_RELIEF_PERCENTILE = 90  # of the depth steps inside a mask


def score_mask(signals: dict[str, float], params: ScoreParams) -> float:
    """Estimate the chance that a mask overlaps an object by an IoU of at least 0.5, in (0, 1).

    A logistic model of what `mask_signals` returns.
    """
    logit = params.bias + sum(getattr(params, name) * value for name, value in signals.items())
    return float(1 / (1 + np.exp(-logit)))


def mask_signals(
    patches: Mask,
    confidence: Float,
    depth: Float | None,
    refined_iou: float,
    eigenvalue: float,
    params: ScoreParams,
) -> dict[str, float]:
    """What a cut knows of its quality, by the names of the coefficients in `ScoreParams`.

    Mean confidence of the patches; contrast and height of the depth step at the border; how far
    the surroundings lie behind the mask; overlap before and after the refinement; share of the
    outline that lies on the borders of the image; and the eigenvalue of the cut.

    Args:
        patches: (h, w) the cut, at least one patch.
        confidence: (h, w) in [0, 1].
        depth: (h, w) in [0, 1]; None for a recipe that uses none: all of it counts as flat.
        refined_iou: IoU of the mask before and after the refinement, in [0, 1].
        eigenvalue: lambda2 of the normalized cut, in [0, 2].
    """
    flat = np.zeros(patches.shape, np.float32) if depth is None else depth
    everywhere = np.ones_like(patches)
    behind, _ = depth_steps(patches, everywhere, flat)
    contrast = border_contrast(patches, everywhere, flat, params.step_floor)
    step = float(np.median(np.abs(behind))) if behind.size else 0.0
    limited = np.clip(behind, -params.clear_step, params.clear_step)
    return {
        'confidence': float(confidence[patches].mean()),
        'log_contrast': float(np.log1p(min(contrast, params.max_contrast))),
        'log_step': float(np.log(step + params.least_step)),
        'in_front': float(limited.mean()) / params.clear_step if behind.size else 0.0,
        'refined_iou': refined_iou,
        'border_share': border_share(patches),
        'eigenvalue': eigenvalue,
    }


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
    return float(np.median(np.abs(border))) / (relief + step_floor)


def depth_steps(mask: Mask, around: Mask, depth: Float) -> tuple[Float, Float]:
    """Depth steps between touching patches.

    Returns:
        Over the border of the mask: depth outside minus depth inside; and between two patches
        inside: the absolute difference.
    """
    border, inside = [], []
    for axis in (0, 1):
        step = np.diff(depth, axis=axis)
        (mask_a, mask_b), (in_a, in_b) = (_ends(array, axis) for array in (mask, around))
        outward = np.where(mask_a, step, -step)
        border.append(outward[(mask_a != mask_b) & in_a & in_b])
        inside.append(np.abs(step[mask_a & mask_b]))
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
