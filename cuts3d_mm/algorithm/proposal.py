"""Propose one instance from an eigenvector."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cuts3d_mm.algorithm.depth_evidence import is_supported
from cuts3d_mm.algorithm.local_cut import Cloud, build_cloud, cut_cloud
from cuts3d_mm.algorithm.local_cut_params import LocalCutParams
from cuts3d_mm.algorithm.masks import component_of
from cuts3d_mm.algorithm.ncut import Bipartition, Eigenpair, split_foreground
from cuts3d_mm.algorithm.params import CutParams
from cuts3d_mm.algorithm.point_cloud import project_depth
from cuts3d_mm.algorithm.spatial_confidence import spatial_confidence
from cuts3d_mm.arrays import Double, Float, Mask


@dataclass(frozen=True)
class Proposal:
    """What one normalized cut offers as an instance."""

    pair: Eigenpair
    split: Bipartition
    semantic_mask: Mask  # (N,) side of the normalized cut that LocalCut starts from
    mask: Mask  # (N,) the instance
    cloud: Cloud | None  # what it was cut out of in 3D; None for a cut in 2D


@dataclass(frozen=True)
class PatchCut:
    """One instance on the patch grid, with what led to it."""

    eigenvector: Double  # (h, w) larger means more foreground
    semantic_mask: Mask  # (h, w) side of the normalized cut that LocalCut starts from
    mask: Mask  # (h, w) the instance
    confidence: Float  # (h, w) in [0, 1], 0 outside the mask
    eigenvalue: float  # lambda2 of the normalized cut; small means a clear cut
    eigengap: float  # estimate of lambda3 - lambda2; near 0 means an ambiguous cut


def propose(
    pair: Eigenpair,
    is_free: Mask,
    depth: Float | None,
    grid_hw: tuple[int, int],
    params: CutParams,
) -> Proposal | None:
    """Take one instance from an eigenvector.

    Args:
        pair: second eigenpair of the patches that are left.
        is_free: (N,) patches that no instance has claimed.
        depth: (h, w) in [0, 1]; None for a cut in 2D.
        grid_hw: (h, w).
        params: the recipe.

    Returns:
        None where no free patch is foreground.
    """
    split = split_foreground(pair.vector, grid_hw)
    if params.local_cut is None or depth is None:
        mask = _component(split.foreground, split.seed, grid_hw)
        return Proposal(pair, split, split.foreground, mask, None)
    semantic = split.foreground & is_free
    if not semantic.any():
        return None
    mask, cloud = cut_in_3d(semantic, split.eigenvector, depth, grid_hw, params.local_cut)
    return Proposal(pair, split, semantic, mask, cloud)


def cut_in_3d(
    semantic_mask: Mask,
    eigenvector: Double,
    depth: Float,
    grid_hw: tuple[int, int],
    params: LocalCutParams,
) -> tuple[Mask, Cloud]:
    """LocalCut, or the 2D component if depth does not support the cut.

    Args:
        semantic_mask: (N,) patches of the semantic cut, at least one.
        eigenvector: (N,) larger means more foreground.
        depth: (h, w) in [0, 1].
        grid_hw: (h, w) with h * w = N.

    Returns:
        (N,) the instance, and the cloud that it was cut out of.
    """
    cloud = build_cloud(semantic_mask, project_depth(depth), eigenvector, grid_hw, params)
    mask = cut_cloud(cloud, params.tau_knn, grid_hw, params)
    if params.evidence is None:
        return mask, cloud
    component = _component(semantic_mask, int(cloud.patches[cloud.sources[0]]), grid_hw)
    shaped = mask.reshape(grid_hw), component.reshape(grid_hw)
    return (mask if is_supported(*shaped, depth, params.evidence) else component), cloud


def finish(proposal: Proposal, grid_hw: tuple[int, int], params: CutParams) -> PatchCut:
    """Add the confidence to an accepted proposal."""
    confidence = proposal.mask.astype(np.float32)
    local = params.local_cut
    if proposal.cloud is not None and local is not None and params.confidence is not None:
        confidence = spatial_confidence(
            proposal.cloud, proposal.mask, grid_hw, local, params.confidence
        )
    return PatchCut(
        eigenvector=proposal.split.eigenvector.reshape(grid_hw),
        semantic_mask=proposal.semantic_mask.reshape(grid_hw),
        mask=proposal.mask.reshape(grid_hw),
        confidence=confidence.reshape(grid_hw),
        eigenvalue=proposal.pair.value,
        eigengap=proposal.pair.gap,
    )


def _component(mask: Mask, seed: int, grid_hw: tuple[int, int]) -> Mask:
    return component_of(mask.reshape(grid_hw), divmod(seed, grid_hw[1])).ravel()
