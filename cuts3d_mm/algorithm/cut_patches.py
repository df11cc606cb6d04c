"""Patch features and depth in, instances on the patch grid out.

The loop of the method: normalized cut of what is left, LocalCut of its foreground, Spatial
Confidence, remove, repeat.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cuts3d_mm.algorithm.affinity import link_patches, normalize_features
from cuts3d_mm.algorithm.depth_grid import normalize_depth, resize_depth
from cuts3d_mm.algorithm.local_cut import build_cloud, cut_cloud
from cuts3d_mm.algorithm.masks import component_of, mask_iou
from cuts3d_mm.algorithm.ncut import Eigenpair, second_eigenvector, split_foreground
from cuts3d_mm.algorithm.packed_links import PackedLinks
from cuts3d_mm.algorithm.params import CutParams
from cuts3d_mm.algorithm.point_cloud import project_depth
from cuts3d_mm.algorithm.spatial_confidence import spatial_confidence
from cuts3d_mm.algorithm.spatial_importance import spatial_importance

Float = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class PatchCut:
    """One instance on the patch grid, with what led to it."""

    eigenvector: NDArray[np.float64]  # (h, w) larger means more foreground
    semantic_mask: Mask  # (h, w) side of the normalized cut that LocalCut starts from
    mask: Mask  # (h, w) the instance
    confidence: Float  # (h, w) in [0, 1], 0 outside the mask
    eigenvalue: float  # lambda2 of the normalized cut; small means a clear cut
    eigengap: float  # estimate of lambda3 - lambda2; near 0 means an ambiguous cut


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
    points = None if depth_grid is None else project_depth(depth_grid)
    is_free = np.ones(len(links), bool)
    previous = np.zeros(len(links), bool)
    cuts: list[PatchCut] = []
    pair, is_solved = None, False
    for attempt in range(len(links)):
        num_counted = attempt if params.count_rejected else len(cuts)
        if params.max_instances is not None and num_counted >= params.max_instances:
            break
        if not is_solved:
            pair = second_eigenvector(links, is_free, params.ncut)
        cut = None if pair is None else _cut_once(pair, is_free, points, grid_hw, params)
        if cut is None or _is_the_rest(cut, is_free, params):
            break
        mask = cut.mask.ravel()
        is_accepted = _is_acceptable(mask, previous, attempt, params)
        if is_accepted:
            cuts.append(cut)
        is_solved = not (is_accepted or params.remove_rejected)  # nothing has changed
        if not is_solved:
            is_free &= ~mask
        previous = mask if is_accepted else np.zeros_like(mask)
        if not is_free.any():
            break
    return _without_overlap(cuts)


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


def _cut_once(
    pair: Eigenpair,
    is_free: Mask,
    points: Float | None,
    grid_hw: tuple[int, int],
    params: CutParams,
) -> PatchCut | None:
    """Take one instance from an eigenvector; None where no free patch is foreground."""
    split = split_foreground(pair.vector, grid_hw)
    local = params.local_cut
    if local is None or points is None:
        semantic = split.foreground
        seed = divmod(split.seed, grid_hw[1])
        mask = component_of(semantic.reshape(grid_hw), seed).ravel()
        confidence = mask.astype(np.float32)
    else:
        semantic = split.foreground & is_free
        if not semantic.any():
            return None
        cloud = build_cloud(semantic, points, split.eigenvector, local)
        mask = cut_cloud(cloud, local.tau_knn, grid_hw, local)
        confidence = mask.astype(np.float32)
        if params.confidence is not None:
            confidence = spatial_confidence(cloud, mask, grid_hw, local, params.confidence)
    return PatchCut(
        eigenvector=split.eigenvector.reshape(grid_hw),
        semantic_mask=semantic.reshape(grid_hw),
        mask=mask.reshape(grid_hw),
        confidence=confidence.reshape(grid_hw),
        eigenvalue=pair.value,
        eigengap=pair.gap,
    )


def _is_the_rest(cut: PatchCut, is_free: Mask, params: CutParams) -> bool:
    """Whether the cut is the inverse of all before: every object has been found (Sec. 3.1)."""
    if params.stop_at_rest_iou is None or is_free.all():
        return False
    return mask_iou(cut.semantic_mask.ravel(), is_free) > params.stop_at_rest_iou


def _is_acceptable(mask: Mask, previous: Mask, attempt: int, params: CutParams) -> bool:
    is_large = attempt < params.min_area_from_cut or mask.mean() > params.min_area_ratio
    is_new = attempt == 0 or mask_iou(mask, previous) <= params.max_overlap_iou
    return bool(is_large and is_new)


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
