"""Cut instances on the patch grid: propose, judge, remove, repeat."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from cuts3d_mm.algorithm.affinity import link_patches
from cuts3d_mm.algorithm.depth_grid import normalize_depth, resize_depth
from cuts3d_mm.algorithm.judge import is_the_rest, reason_to_reject
from cuts3d_mm.algorithm.ncut import second_eigenvector
from cuts3d_mm.algorithm.packed_links import PackedLinks
from cuts3d_mm.algorithm.params import CutParams, PairRule, Similarity
from cuts3d_mm.algorithm.proposal import PatchCut, Proposal, finish, propose
from cuts3d_mm.algorithm.spatial_importance import spatial_importance
from cuts3d_mm.arrays import Float, Mask


@dataclass(frozen=True)
class RejectedCut:
    """A cut that did not become an instance."""

    mask: Mask  # (h, w)
    reason: str


@dataclass(frozen=True)
class PatchCuts:
    """The instances of one image on the patch grid, and what led to them."""

    accepted: tuple[PatchCut, ...]  # in the order of the cuts, without overlap
    rejected: tuple[RejectedCut, ...]  # in the order of the cuts; those without a patch last
    depth: Float | None  # (h, w) in [0, 1]; None for a recipe that uses none
    importance: Float | None  # (h, w) in [beta, 1]; None where sharpening is off


def cut_patches(
    features: Float, depth: Float | None, params: CutParams, similarity: Similarity = 'cosine'
) -> PatchCuts:
    """Cut instances on the patch grid.

    Args:
        features: (h, w, C).
        depth: (H', W') finite, larger is farther; None only where the parameters use none.
        params: the recipe; its refinement is not used here.
        similarity: how two features compare.
    """
    grid_hw = features.shape[0], features.shape[1]
    depth_grid = depth_on_grid(depth, grid_hw, params)
    importance = None
    if params.importance is not None and depth_grid is not None:
        importance = spatial_importance(depth_grid, params.importance)
    links = _semantic_graph(features, importance, params, similarity)
    accepted: list[PatchCut] = []
    rejected: list[RejectedCut] = []
    if params.max_instances != 0:
        for proposal, reason in _judged_proposals(links, depth_grid, grid_hw, params):
            if reason is None:
                accepted.append(finish(proposal, grid_hw, params))
            else:
                rejected.append(RejectedCut(proposal.mask.reshape(grid_hw), reason))
            counted = len(accepted) + len(rejected) * params.count_rejected
            if counted == params.max_instances:
                break
    separate, emptied = _without_overlap(accepted)
    return PatchCuts(tuple(separate), (*rejected, *emptied), depth_grid, importance)


def _judged_proposals(
    links: PackedLinks, depth: Float | None, grid_hw: tuple[int, int], params: CutParams
) -> Iterator[tuple[Proposal, str | None]]:
    """Propose cuts until nothing is left, each with the reason to reject it or None."""
    is_free = np.ones(len(links), bool)
    previous: Proposal | None = None
    pair, is_solved = None, False
    for attempt in range(len(links)):
        if not is_free.any():
            return
        if not is_solved:
            pair = second_eigenvector(links, is_free, params.ncut)
        proposal = None if pair is None else propose(pair, is_free, depth, grid_hw, params)
        if proposal is None or is_the_rest(proposal, is_free, params):
            return
        reason = reason_to_reject(proposal, previous, attempt, depth, params)
        yield proposal, reason
        if is_solved and reason is not None:
            return  # the same graph gives the same cut in every iteration
        is_solved = reason is not None and not params.remove_rejected  # the graph is the same
        if not is_solved:
            is_free &= ~proposal.mask
        previous = proposal if reason is None else None


def depth_on_grid(
    depth: Float | None, grid_hw: tuple[int, int], params: CutParams
) -> Float | None:
    """Scale depth to [0, 1] on the patch grid; None for a recipe that uses no depth."""
    if params.importance is None and params.local_cut is None:
        return None
    if depth is None:
        raise ValueError('depth must be given where importance or local_cut is on, got None')
    scaled = normalize_depth(depth, params.depth_outlier_spans)
    return resize_depth(scaled, grid_hw, params.depth_resize)


def _semantic_graph(
    features: Float, importance: Float | None, params: CutParams, similarity: Similarity
) -> PackedLinks:
    flat = np.ascontiguousarray(features.reshape(-1, features.shape[-1]), np.float32)
    rule: PairRule = 'product' if params.importance is None else params.importance.pair_rule
    values = None if importance is None else importance.ravel()
    return link_patches(flat, params.ncut.tau_ncut, values, rule, similarity)


def _without_overlap(cuts: list[PatchCut]) -> tuple[list[PatchCut], list[RejectedCut]]:
    """Remove the patches of earlier masks from each mask; reject masks that become empty."""
    separate: list[PatchCut] = []
    emptied: list[RejectedCut] = []
    for cut in cuts:
        mask = cut.mask.copy()
        for earlier in separate:
            mask &= ~earlier.mask
        if mask.any():
            confidence = np.where(mask, cut.confidence, 0).astype(np.float32)
            separate.append(replace(cut, mask=mask, confidence=confidence))
        else:
            emptied.append(RejectedCut(cut.mask, 'earlier instances hold all of it'))
    return separate, emptied
