"""Cut instances on the patch grid: propose, accept, remove, repeat."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cuts3d_mm.algorithm.affinity import link_patches, normalize_features
from cuts3d_mm.algorithm.depth_grid import normalize_depth, resize_depth
from cuts3d_mm.algorithm.masks import mask_iou
from cuts3d_mm.algorithm.ncut import second_eigenvector
from cuts3d_mm.algorithm.packed_links import PackedLinks
from cuts3d_mm.algorithm.params import CutParams
from cuts3d_mm.algorithm.proposal import PatchCut, Proposal, finish, is_acceptable, propose
from cuts3d_mm.algorithm.spatial_importance import spatial_importance

Float = NDArray[np.float32]
Mask = NDArray[np.bool_]


def cut_patches(features: Float, depth: Float | None, params: CutParams) -> list[PatchCut]:
    """Cut instances on the patch grid.

    Args:
        features: (h, w, C).
        depth: (H', W') finite, larger is farther; None only where the parameters use none.
        params: the recipe; its refinement is not used here.

    Returns:
        Accepted cuts in order, without overlap.
    """
    grid_hw = features.shape[0], features.shape[1]
    depth_grid = depth_on_grid(depth, grid_hw, params)
    links = _semantic_graph(features, depth_grid, params)
    is_free = np.ones(len(links), bool)
    accepted: list[Proposal] = []
    previous: Proposal | None = None
    pair, is_solved = None, False
    for attempt in range(len(links)):
        num_counted = attempt if params.count_rejected else len(accepted)
        if num_counted == params.max_instances or not is_free.any():
            break
        if not is_solved:
            pair = second_eigenvector(links, is_free, params.ncut)
        proposal = None if pair is None else propose(pair, is_free, depth_grid, grid_hw, params)
        if proposal is None or _is_the_rest(proposal, is_free, params):
            break
        is_accepted = is_acceptable(proposal, previous, attempt, params)
        if is_accepted:
            accepted.append(proposal)
        is_solved = not (is_accepted or params.remove_rejected)  # nothing has changed
        if not is_solved:
            is_free &= ~proposal.mask
        previous = proposal if is_accepted else None
    return _without_overlap([finish(proposal, grid_hw, params) for proposal in accepted])


def depth_on_grid(
    depth: Float | None, grid_hw: tuple[int, int], params: CutParams
) -> Float | None:
    """Scale depth to [0, 1] on the patch grid; None for a recipe that uses no depth."""
    if params.importance is None and params.local_cut is None:
        return None
    if depth is None:
        raise ValueError('depth must be given where importance or local_cut is on, got None')
    scaled = normalize_depth(depth, params.depth_clip_percent)
    return resize_depth(scaled, grid_hw, params.depth_resize)


def _semantic_graph(features: Float, depth_grid: Float | None, params: CutParams) -> PackedLinks:
    flat = normalize_features(features.reshape(-1, features.shape[-1]))
    if params.importance is None or depth_grid is None:
        return link_patches(flat, params.ncut.tau_ncut)
    importance = spatial_importance(depth_grid, params.importance).ravel()
    rule = params.importance.pair_rule
    return link_patches(flat, params.ncut.tau_ncut, importance, rule)


def _is_the_rest(proposal: Proposal, is_free: Mask, params: CutParams) -> bool:
    """Whether the cut is the inverse of all before: every object has been found (Sec. 3.1)."""
    if params.stop_at_rest_iou is None or is_free.all():
        return False
    return mask_iou(proposal.semantic_mask, is_free) > params.stop_at_rest_iou


def _without_overlap(cuts: list[PatchCut]) -> list[PatchCut]:
    """Take from each mask what an earlier one holds; a mask that is left empty goes."""
    separate: list[PatchCut] = []
    for cut in cuts:
        mask = cut.mask.copy()
        for earlier in separate:
            mask &= ~earlier.mask
        if mask.any():
            confidence = np.where(mask, cut.confidence, 0).astype(np.float32)
            separate.append(replace(cut, mask=mask, confidence=confidence))
    return separate
