"""A semantic mask and its points in, one instance cut out in 3D out (Sec. 3.2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cuts3d_mm.algorithm.knn_graph import Edges, connect_neighbors
from cuts3d_mm.algorithm.masks import component_of
from cuts3d_mm.algorithm.min_cut import source_side
from cuts3d_mm.algorithm.params import LocalCutParams

Float = NDArray[np.float32]
Index = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Cloud:
    """The point cloud of one semantic mask, ready to be cut at any threshold."""

    patches: Index  # (n,) patch index of each cloud node
    edges: Edges  # k nearest neighbours, between cloud nodes
    sources: Index  # cloud nodes tied to the source, the strongest first
    sinks: Index  # cloud nodes tied to the sink; empty for a cloud of one point


def build_cloud(
    semantic_mask: Mask,
    points: Float,
    eigenvector: NDArray[np.float64],
    params: LocalCutParams,
) -> Cloud:
    """Pick the points, their neighbours and the terminals for LocalCut.

    The source is the point of largest, the sink that of smallest eigenvector magnitude:
    what NCut holds for most foreground and most background.

    Args:
        semantic_mask: (N,) patches of the semantic cut, at least one.
        points: (N, 3) in [0, 1].
        eigenvector: (N,).
    """
    if not semantic_mask.any():
        raise ValueError('semantic_mask must hold at least one patch, got none')
    patches = np.flatnonzero(semantic_mask)
    if params.outside == 'far':
        patches = np.arange(len(semantic_mask))
        points = points.copy()
        points[~semantic_mask, 2] = 1.0
    magnitude = np.abs(eigenvector[patches])
    sources, sinks = _terminals(magnitude, semantic_mask[patches], params)
    edges = connect_neighbors(points[patches], params.num_neighbors)
    return Cloud(patches, edges, sources, sinks)


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
    capacities = CAPACITIES[params.capacity](edges.length, tau_knn)
    side = source_side(len(cloud.patches), edges, capacities, cloud.sources, cloud.sinks)
    mask = np.zeros(grid_hw[0] * grid_hw[1], bool)
    mask[cloud.patches[side]] = True
    seed = divmod(int(cloud.patches[cloud.sources[0]]), grid_hw[1])
    return component_of(mask.reshape(grid_hw), seed).ravel()


def _terminals(
    magnitude: NDArray[np.float64], is_inside: Mask, params: LocalCutParams
) -> tuple[Index, Index]:
    size = 1
    if params.terminals == 'regional':
        size = max(1, int(params.terminal_fraction * is_inside.sum()))
    strongest_first = np.argsort(np.where(is_inside, -magnitude, np.inf), kind='stable')
    sources = strongest_first[:size]
    weakest_first = np.argsort(magnitude, kind='stable')
    sinks = weakest_first[: min(size, len(magnitude) - size)]
    return sources, np.setdiff1d(sinks, sources)


# Edge length -> capacity, for lengths up to tau.
CAPACITIES = {
    # After the min-cut segmentation that the paper cites: near points hold together.
    'affinity': lambda length, tau: np.exp(-((length / max(tau, 1e-12)) ** 2)),
    'margin': lambda length, tau: np.maximum(tau - length, 0),
    # The paper's sentence read literally; it makes near points the cheapest to part.
    'distance': lambda length, tau: length,
}
