"""Cut one instance out of a semantic mask in 3D (Sec. 3.2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cuts3d_mm.algorithm.grid_graph import connect_patches
from cuts3d_mm.algorithm.knn_graph import Edges, connect_neighbors
from cuts3d_mm.algorithm.local_cut_params import Capacity, LocalCutParams
from cuts3d_mm.algorithm.masks import component_of
from cuts3d_mm.algorithm.min_cut import source_side
from cuts3d_mm.arrays import Double, Float, Index, Mask


@dataclass(frozen=True)
class Cloud:
    """The point cloud of one semantic mask, ready to be cut at any threshold."""

    patches: Index  # (n,) patch index of each cloud node
    edges: Edges  # between cloud nodes
    eigenvector_steps: NDArray[np.float64]  # (E,) along the edges, the largest entry being 1
    magnitudes: NDArray[np.float64]  # (n,) of the eigenvector
    is_inside: Mask  # (n,) whether the semantic mask holds the node
    sources: Index  # cloud nodes tied to the source, the strongest first
    sinks: Index  # cloud nodes tied to the sink; empty for a cloud of one point


def build_cloud(
    semantic_mask: Mask,
    points: Float,
    eigenvector: NDArray[np.float64],
    grid_hw: tuple[int, int],
    params: LocalCutParams,
) -> Cloud:
    """Pick the points, their neighbours and the terminals for LocalCut.

    The source is the point of largest, the sink that of smallest eigenvector magnitude:
    what NCut takes as most clearly foreground and background.

    Args:
        semantic_mask: (N,) patches of the semantic cut, at least one.
        points: (N, 3) in [0, 1].
        eigenvector: (N,).
        grid_hw: (h, w) with h * w = N.
    """
    if not semantic_mask.any():
        raise ValueError('semantic_mask must hold at least one patch, got none')
    patches = np.flatnonzero(semantic_mask)
    if params.outside == 'far':
        patches = np.arange(len(semantic_mask))
        points = points.copy()
        points[~semantic_mask, 2] = 1.0
    magnitudes, is_inside = np.abs(eigenvector[patches]), semantic_mask[patches]
    sources, sinks = _terminals(magnitudes, is_inside, _share_of(params))
    if params.neighborhood == 'grid':
        edges = connect_patches(patches, points[patches, 2], grid_hw)
    else:
        edges = connect_neighbors(points[patches], params.num_neighbors)
    entries = eigenvector[patches] / max(float(np.abs(eigenvector).max()), 1e-12)
    steps = np.abs(entries[edges.first] - entries[edges.second])
    return Cloud(patches, edges, steps, magnitudes, is_inside, sources, sinks)


def tie_terminals(cloud: Cloud, fraction: float) -> Cloud:
    """Tie another share of the mask to source and sink, in [0, 0.5]; at least a node each."""
    sources, sinks = _terminals(cloud.magnitudes, cloud.is_inside, fraction)
    return replace(cloud, sources=sources, sinks=sinks)


def cut_cloud(
    cloud: Cloud, tau_knn: float, grid_hw: tuple[int, int], params: LocalCutParams
) -> Mask:
    """Cut the instance around the source out of a cloud.

    Edges longer than the threshold are dropped, the rest are cut between the terminals at
    least capacity. What stays with the source and is 4-connected to it on the patch grid is
    the instance; it holds at least the source patch.

    Args:
        tau_knn: longest edge kept, in cloud units.
        grid_hw: (h, w).

    Returns:
        (N,) bool.
    """
    short = np.flatnonzero(cloud.edges.length <= tau_knn)
    edges = Edges(cloud.edges.first[short], cloud.edges.second[short], cloud.edges.length[short])
    steps = cloud.eigenvector_steps[short]
    capacities = CAPACITIES[params.capacity](edges.length, steps, tau_knn, params)
    side = source_side(len(cloud.patches), edges, capacities, cloud.sources, cloud.sinks)
    mask = np.zeros(grid_hw[0] * grid_hw[1], bool)
    mask[cloud.patches[side]] = True
    seed = divmod(int(cloud.patches[cloud.sources[0]]), grid_hw[1])
    return component_of(mask.reshape(grid_hw), seed).ravel()


def _share_of(params: LocalCutParams) -> float:
    return params.terminal_fraction if params.terminals == 'regional' else 0.0


def _terminals(
    magnitude: NDArray[np.float64], is_inside: Mask, fraction: float
) -> tuple[Index, Index]:
    size = max(1, int(fraction * is_inside.sum()))
    strongest_first = np.argsort(np.where(is_inside, -magnitude, np.inf), kind='stable')
    sources = strongest_first[:size]
    weakest_first = np.argsort(magnitude, kind='stable')
    sinks = weakest_first[: min(size, len(magnitude) - size)]
    return sources, np.setdiff1d(sinks, sources)


# Edge lengths, eigenvector steps, tau, parameters -> capacities, for lengths up to tau.
CAPACITIES: dict[Capacity, Callable[[Double, Double, float, LocalCutParams], Double]] = {
    # Cheap where depth or the eigenvector steps. A flat object seen in 2D has the same price
    # everywhere, so that the eigenvector also decides between cuts that depth leaves equal.
    'step': lambda length, steps, tau, params: np.exp(
        -((length / params.depth_step) ** 2) - (steps / params.eigenvector_step) ** 2
    ),
    # After the min-cut segmentation that the paper cites: edges between near points cost most.
    'affinity': lambda length, steps, tau, params: np.exp(-((length / max(tau, 1e-12)) ** 2)),
    'margin': lambda length, steps, tau, params: np.maximum(tau - length, 0),
    # The paper's sentence read literally; it makes near points the cheapest to separate.
    'distance': lambda length, steps, tau, params: length,
}
