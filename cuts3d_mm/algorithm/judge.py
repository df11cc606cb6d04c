"""Judge a proposed cut: accept it, or say why not."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cuts3d_mm.algorithm.masks import mask_iou
from cuts3d_mm.algorithm.params import BackgroundParams, CutParams
from cuts3d_mm.algorithm.proposal import Proposal
from cuts3d_mm.arrays import Mask


def is_the_rest(proposal: Proposal, is_free: Mask, params: CutParams) -> bool:
    """Whether the cut is all that earlier cuts have left: all objects are found (Sec. 3.1)."""
    if params.stop_at_rest_iou is None or is_free.all():
        return False
    return mask_iou(proposal.semantic_mask, is_free) > params.stop_at_rest_iou


def reason_to_reject(
    proposal: Proposal,
    previous: Proposal | None,
    attempt: int,
    depth: NDArray[np.float32] | None,
    params: CutParams,
) -> str | None:
    """Apply MaskCut's rules: a cut must be large enough and not repeat the previous instance.

    Args:
        proposal: the candidate.
        previous: the instance that was cut just before; None if that cut was rejected.
        attempt: number of the cut in its image, from 0.
        depth: (h, w) in [0, 1]; None for a recipe that uses none.
        params: the recipe.

    Returns:
        None for a cut that is accepted.
    """
    mask = proposal.mask
    if attempt >= params.min_area_from_cut and mask.mean() <= params.min_area_ratio:
        return f'{mask.mean():.1%} of the image, must be above {params.min_area_ratio:.1%}'
    if previous is not None and mask_iou(mask, previous.mask) > params.max_overlap_iou:
        return f'IoU with the previous instance above {params.max_overlap_iou:g}'
    if params.background is not None and depth is not None:
        if _is_background(mask.reshape(depth.shape), depth, params.background):
            return 'background: large, far and cut by the borders of the image'
    return None


def _is_background(mask: Mask, depth: NDArray[np.float32], params: BackgroundParams) -> bool:
    borders = (mask[0], mask[-1], mask[:, 0], mask[:, -1])
    num_touched = sum(border.mean() >= params.min_border_share for border in borders)
    if num_touched < params.min_borders or mask.mean() < params.min_area_ratio or mask.all():
        return False
    return bool(np.median(depth[mask]) >= np.median(depth[~mask]))
