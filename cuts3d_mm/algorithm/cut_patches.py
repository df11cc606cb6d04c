"""Cut instances on the patch grid: propose, judge, remove, repeat."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from cuts3d_mm.algorithm.judge import is_the_rest, reason_to_reject
from cuts3d_mm.algorithm.ncut import second_eigenvector
from cuts3d_mm.algorithm.params import CutParams, Similarity
from cuts3d_mm.algorithm.patch_graph import PatchGraph, build_patch_graph
from cuts3d_mm.algorithm.proposal import PatchCut, Proposal, finish, propose
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
    """Cut instances on the patch grid, from features and depth.

    Args:
        features: (h, w, C).
        depth: (H', W') finite, larger is farther; None only where the parameters use none.
        params: the recipe; its refinement is not used here.
        similarity: how two features compare.
    """
    return cut_graph(build_patch_graph(features, depth, params, similarity), params)


def cut_graph(graph: PatchGraph, params: CutParams) -> PatchCuts:
    """Cut instances on the patch grid.

    Args:
        graph: of the patches, made with the same parameters.
        params: the recipe; its refinement is not used here.
    """
    accepted: list[PatchCut] = []
    rejected: list[RejectedCut] = []
    if params.max_instances != 0:
        for proposal, reason in _judged_proposals(graph, params):
            if reason is None:
                accepted.append(finish(proposal, graph.grid_hw, params))
            else:
                rejected.append(RejectedCut(proposal.mask.reshape(graph.grid_hw), reason))
            counted = len(accepted) + len(rejected) * params.count_rejected
            if counted == params.max_instances:
                break
    separate, emptied = _without_overlap(accepted)
    return PatchCuts(tuple(separate), (*rejected, *emptied), graph.depth, graph.importance)


def _judged_proposals(
    graph: PatchGraph, params: CutParams
) -> Iterator[tuple[Proposal, str | None]]:
    """Propose cuts until nothing is left, each with the reason to reject it or None."""
    links, depth, grid_hw = graph.links, graph.depth, graph.grid_hw
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
