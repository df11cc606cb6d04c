"""Build the graph of an image's patches that is cut."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cuts3d_mm.algorithm.affinity import link_patches
from cuts3d_mm.algorithm.depth_grid import normalize_depth, resize_depth
from cuts3d_mm.algorithm.packed_links import PackedLinks
from cuts3d_mm.algorithm.params import CutParams, PairRule, Similarity
from cuts3d_mm.algorithm.spatial_importance import spatial_importance
from cuts3d_mm.arrays import Float


@dataclass(frozen=True)
class PatchGraph:
    """All that cutting needs to know of an image with N = h * w patches."""

    links: PackedLinks  # between N patches
    grid_hw: tuple[int, int]
    depth: Float | None  # (h, w) in [0, 1]; None for a recipe that uses none
    importance: Float | None  # (h, w) in [beta, 1]; None where sharpening is off


def build_patch_graph(
    features: Any,
    depth: Float | None,
    params: CutParams,
    similarity: Similarity = 'cosine',
    link: Callable[..., PackedLinks] = link_patches,
) -> PatchGraph:
    """Link the patches of an image, and bring its depth to their grid.

    Args:
        features: (h, w, C) array, or what `link` takes.
        depth: (H', W') finite, larger is farther; None only where the parameters use none.
        params: the recipe.
        similarity: how two features compare.
        link: `link_patches`, or the same on another device.
    """
    grid_hw = features.shape[0], features.shape[1]
    depth_grid = depth_on_grid(depth, grid_hw, params)
    importance = None
    if params.importance is not None and depth_grid is not None:
        importance = spatial_importance(depth_grid, params.importance)
    flat = features.reshape(-1, features.shape[-1])
    rule: PairRule = 'product' if params.importance is None else params.importance.pair_rule
    values = None if importance is None else importance.ravel()
    links = link(flat, params.ncut.tau_ncut, values, rule, similarity)
    return PatchGraph(links, grid_hw, depth_grid, importance)


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
