"""Cut an instance in 3D (LocalCut, Sec. 3.2), with its confidence (Eq. 4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cuts3d_mm.arrays import Double, Float, Index, Mask

from .kernels.kernel import Kernel
from .masks import component_of
from .params import Capacity, ConfidenceParams, EvidenceParams, LocalCutParams

# Edge lengths, eigenvector steps, tau, parameters -> capacities, for lengths up to tau.
CAPACITIES: dict[Capacity, Callable[[Double, Double, float, LocalCutParams], Double]] = {
    # Cheap where depth or the eigenvector steps. A flat object seen in 2D has the same price
    # everywhere, so that the eigenvector also decides between cuts that depth leaves equal.
    'step': lambda length, steps, tau, params: np.exp(
        -((length / params.depth_step) ** 2) - (steps / params.eigenvector_step) ** 2
    ),
    # After the min-cut segmentation that the paper cites: edges between near points cost most.
    'affinity': lambda length, steps, tau, params: np.exp(-((length / max(tau, 1e-12)) ** 2)),
    # The paper's sentence read literally; it makes near points the cheapest to separate.
    'distance': lambda length, steps, tau, params: length,
}
# Right, below, and the two diagonals below: each pair of neighbours is met once.
_OFFSETS = ((0, 1), (1, -1), (1, 0), (1, 1))
_FLOW_LIMIT = 2**30  # SciPy counts flow in int32
_NEITHER, _SOURCE, _SINK = range(3)
_RELIEF_PERCENTILE = 90  # of the depth steps inside a cut
_TIE = 1e-4  # quantised depths tie exactly; rounding noise must not decide


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


@dataclass(frozen=True)
class Edges:
    """Undirected edges of a graph, each once, with first < second, sorted."""

    first: Index  # (E,)
    second: Index  # (E,)
    length: NDArray[np.float64]  # (E,) Euclidean, in the unit of the points


def connect_neighbors(points: NDArray[np.float32], num_neighbors: int) -> Edges:
    """Connect every point to its nearest ones; an edge counts if either end chose it.

    Args:
        points: (n, 3). Fewer than `num_neighbors` + 1 points are all connected.
        num_neighbors: k, at least 1.
    """
    from scipy.spatial import cKDTree  # a tenth of a second that cuts on the grid need not take

    if num_neighbors < 1:
        raise ValueError(f'num_neighbors must be at least 1, got {num_neighbors}')
    count = len(points)
    if count < 2:
        none = np.empty(0, np.int64)
        return Edges(none, none, np.empty(0))
    neighbors = min(num_neighbors, count - 1)
    # The nearest point is nearly always the query itself; duplicates are sorted out below.
    _, found = cKDTree(points).query(points, neighbors + 1)
    start = np.repeat(np.arange(count), neighbors + 1)
    pairs = np.sort(np.stack([start, found.ravel()]), axis=0)
    codes = np.unique(pairs[0, pairs[0] < pairs[1]] * count + pairs[1, pairs[0] < pairs[1]])
    first, second = np.divmod(codes, count)
    difference = points[first].astype(np.float64) - points[second]
    return Edges(first, second, np.sqrt((difference**2).sum(axis=1)))


def connect_patches(patches: Index, depth: NDArray[np.float32], grid_hw: tuple[int, int]) -> Edges:
    """Connect patches that touch on the grid, corners included.

    All neighbours are connected. Among the k nearest in 3D, many lie at equal distances on the
    grid, and which of them are connected would be arbitrary.

    Args:
        patches: (n,) indices into the grid, rising.
        depth: (n,) of each.
        grid_hw: (h, w).

    Returns:
        Edges between positions in `patches`; their length is the depth step.
    """
    height, width = grid_hw
    node = np.full((height, width), -1, np.int64)
    node.flat[patches] = np.arange(len(patches))
    pairs = []
    for down, right in _OFFSETS:
        left = max(0, -right)
        first = node[: height - down, left : width - max(0, right)]
        second = node[down:, left + right : width + min(0, right)]
        is_edge = (first >= 0) & (second >= 0)
        pairs.append(np.stack([first[is_edge], second[is_edge]]))
    first, second = np.concatenate(pairs, axis=1)
    order = np.lexsort((second, first))
    first, second = first[order], second[order]
    step = np.abs(depth[first].astype(np.float64) - depth[second])
    return Edges(first, second, step)


def source_side(
    num_nodes: int,
    edges: Edges,
    capacities: NDArray[np.float64],
    sources: Index,
    sinks: Index,
) -> Mask:
    """Cut the sources off the sinks at the least total capacity.

    Of all minimum cuts the one with the smallest source side is returned: the nodes that
    the sources still reach in the residual graph. It is unique, so that the choice of solver
    cannot change a mask.

    Args:
        num_nodes: n.
        edges: undirected.
        capacities: (E,) non-negative. They are rounded to integers, with their sum scaled
            to 2^30, and an edge of positive capacity keeps at least one unit.
        sources: indices of the nodes tied to the source, at least one.
        sinks: indices of the nodes tied to the sink; where it is empty nothing is cut, and
            all that the sources reach is returned.

    Returns:
        (n,) True on the source side.

    Raises:
        ValueError: a node is source and sink at once, or a capacity is negative.
    """
    if np.intersect1d(sources, sinks).size:
        raise ValueError('sources and sinks must not share a node')
    if capacities.size and capacities.min() < 0:
        raise ValueError(f'capacities must not be negative, got {capacities.min()}')
    terminal = np.zeros(num_nodes, np.int8)
    terminal[sources], terminal[sinks] = _SOURCE, _SINK
    ends = terminal[edges.first], terminal[edges.second]
    is_kept = (capacities > 0) & ((ends[0] != ends[1]) | (ends[0] == _NEITHER))
    first, second, capacities = edges.first[is_kept], edges.second[is_kept], capacities[is_kept]
    scale = _FLOW_LIMIT / max(capacities.sum(), 1e-9)
    units = np.maximum(np.rint(capacities * scale), 1).astype(np.int32)
    return _source_side(first, second, units, num_nodes, sources, sinks)


def _source_side_plain(
    first: Index,
    second: Index,
    units: NDArray[np.int32],
    num_nodes: int,
    sources: Index,
    sinks: Index,
) -> Mask:
    # Imported where compiled code cannot run: a tenth of a second that others need not take.
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import breadth_first_order, maximum_flow

    # All sources become node 0 and all sinks node 1: no infinite capacities are needed.
    node = np.arange(2, num_nodes + 2)
    node[sources], node[sinks] = 0, 1
    ends = node[np.concatenate([first, second])], node[np.concatenate([second, first])]
    shape = num_nodes + 2, num_nodes + 2
    graph = coo_array((np.concatenate([units, units]), ends), shape=shape).tocsr()
    graph.indices, graph.indptr = graph.indices.astype(np.int32), graph.indptr.astype(np.int32)
    reached = breadth_first_order(graph, 0, return_predecessors=False)
    if sinks.size and 1 in reached:
        residual = graph - maximum_flow(graph, 0, 1, method='dinic').flow
        residual.eliminate_zeros()
        reached = breadth_first_order(residual, 0, return_predecessors=False)
    is_reached = np.zeros(num_nodes + 2, bool)
    is_reached[reached] = True
    return is_reached[node]


_source_side = Kernel('max_flow.source_side', _source_side_plain)


def spatial_confidence(
    cloud: Cloud,
    mask: Mask,
    grid_hw: tuple[int, int],
    local_cut: LocalCutParams,
    params: ConfidenceParams,
) -> Float:
    """Average LocalCut over thresholds from tau_min to tau_knn.

    The instance itself counts as the cut at tau_knn, also where it is the 2D component.
    The lower bound SC_min is applied where the confidence is used, not here.

    Args:
        cloud: of the instance's semantic mask.
        mask: (N,) the instance.
        local_cut: how it was cut.
        params: which cuts are averaged.

    Returns:
        (N,) confidence: in [1 / num_cuts, 1] inside the mask, 0 outside.
    """
    if params.num_cuts < 1:
        raise ValueError(f'num_cuts must be at least 1, got {params.num_cuts}')
    between = np.linspace if params.spacing == 'linear' else np.geomspace
    lowest = params.tau_min_ratio * local_cut.tau_knn
    thresholds = between(lowest, local_cut.tau_knn, params.num_cuts)[:-1]
    if params.terminal_fraction is not None:
        cloud = tie_terminals(cloud, params.terminal_fraction)
    agreement = mask.astype(np.float32)
    for tau in thresholds:
        agreement += cut_cloud(cloud, tau, grid_hw, local_cut)
    return np.where(mask, agreement / params.num_cuts, 0).astype(np.float32)


def is_supported(mask: Mask, component: Mask, depth: Float, params: EvidenceParams) -> bool:
    """Tell whether depth supports cutting a mask out of its 2D component.

    It does if the mask keeps a fair share of the component and the depth step along the new
    border is large, both by itself and against the relief inside the mask.

    Args:
        mask: (h, w) the cut, inside the component.
        component: (h, w) what a cut in 2D gives.
        depth: (h, w) in [0, 1].

    Returns:
        True also where the mask is the whole component.
    """
    if np.count_nonzero(mask) < params.min_share * np.count_nonzero(component):
        return False
    border, inside = _depth_steps(mask, component, depth)
    if border.size == 0:
        return True
    step = float(np.median(border))
    relief = float(np.percentile(inside, _RELIEF_PERCENTILE)) if inside.size else 0.0
    return step > max(params.min_depth_step, params.min_contrast * relief) + _TIE


def _depth_steps(mask: Mask, component: Mask, depth: Float) -> tuple[Float, Float]:
    """Depth steps between touching patches of a component: over the border, and in the mask."""
    border, inside = [], []
    for axis in (0, 1):
        step = np.abs(np.diff(depth, axis=axis))
        ends = [_without(array, axis) for array in (mask, component)]
        (mask_a, mask_b), (in_a, in_b) = ends
        border.append(step[(mask_a != mask_b) & in_a & in_b])
        inside.append(step[mask_a & mask_b])
    return np.concatenate(border), np.concatenate(inside)


def _without(array: Mask, axis: int) -> tuple[Mask, Mask]:
    """Both ends of all pairs of neighbours along an axis."""
    length = array.shape[axis]
    return array.take(range(length - 1), axis), array.take(range(1, length), axis)
