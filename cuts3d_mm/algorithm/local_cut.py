"""Cut an instance in 3D (LocalCut, Sec. 3.2), with its confidence (Eq. 4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module

import numpy as np
from numpy.typing import NDArray

from cuts3d_mm.arrays import Double, Float, Index, Mask

from .depth import project_depth
from .kernels.kernel import Kernel
from .masks import component_at
from .params import ConfidenceParams, EvidenceParams, LocalCutParams
from .score import border_contrast

# Edge lengths, eigenvector steps, tau, parameters -> capacities, for lengths up to tau.
LocalCutRule = Callable[[Double, Double, float, LocalCutParams], Double]
LOCAL_CUTS: dict[str, LocalCutRule] = {
    # Cheap where depth or the eigenvector steps. A flat object seen in 2D has the same price
    # everywhere, so that the eigenvector also decides between cuts that depth leaves equal.
    'step': lambda length, steps, tau, params: np.exp(
        -((length / (params.depth_step)) ** 2) - (steps / params.eigenvector_step) ** 2
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
_TIE = 0.01  # contrasts of quantised depths tie; rounding noise must not decide


@dataclass(frozen=True)
class Cloud:
    """The point cloud of one semantic mask, ready to be cut at any threshold."""

    grid_hw: tuple[int, int]
    patches: Index  # (n,) patch index of each cloud node
    edges: Edges  # between cloud nodes
    eigenvector_steps: Double  # (E,) along the edges, the largest entry being 1
    sources: Index  # cloud nodes tied to the source, the strongest first
    sinks: Index  # cloud nodes tied to the sink; empty for a cloud of one point


def build_cloud(
    semantic_mask: Mask, eigenvector: Double, depth: Float, params: LocalCutParams
) -> Cloud:
    """Pick the points, their neighbours and the terminals for LocalCut.

    The source is the point of largest, the sink that of smallest eigenvector magnitude:
    what NCut takes as most clearly foreground and background.

    Args:
        semantic_mask: (N,) patches of the semantic cut, at least one.
        depth: (h, w) in [0, 1], with h * w = N.
    """
    if not semantic_mask.any():
        raise ValueError('semantic_mask must hold at least one patch, got none')
    patches = np.flatnonzero(semantic_mask)
    if params.outside == 'far':
        patches = np.arange(len(semantic_mask))
        depth = np.where(semantic_mask.reshape(depth.shape), depth, np.float32(1))
    magnitudes, is_inside = np.abs(eigenvector[patches]), semantic_mask[patches]
    fraction = params.terminal_fraction if params.terminals == 'regional' else 0.0
    sources, sinks = _terminals(magnitudes, is_inside, fraction)
    if params.neighborhood == 'grid':
        edges = connect_patches(patches, depth.ravel()[patches], depth.shape)
    else:
        edges = connect_neighbors(project_depth(depth)[patches], params.num_neighbors)
    entries = eigenvector[patches] / max(float(np.abs(eigenvector).max()), 1e-12)
    steps = np.abs(entries[edges.first] - entries[edges.second])
    return Cloud(depth.shape, patches, edges, steps, sources, sinks)


def cut_cloud(cloud: Cloud, tau_knn: float, params: LocalCutParams) -> Mask:
    """Cut the instance around the source out of a cloud.

    Edges longer than the threshold are dropped, the rest are cut between the terminals at
    least capacity. What stays with the source and is 4-connected to it on the patch grid is
    the instance; it holds at least the source patch.

    Args:
        tau_knn: longest edge kept, in cloud units.
    """
    short = np.flatnonzero(cloud.edges.length <= tau_knn)
    edges = Edges(cloud.edges.first[short], cloud.edges.second[short], cloud.edges.length[short])
    steps = cloud.eigenvector_steps[short]
    capacities = find_rule(params.capacity)(edges.length, steps, tau_knn, params)
    side = source_side(len(cloud.patches), edges, capacities, cloud.sources, cloud.sinks)
    mask = np.zeros(cloud.grid_hw[0] * cloud.grid_hw[1], bool)
    mask[cloud.patches[side]] = True
    return component_at(mask, int(cloud.patches[cloud.sources[0]]), cloud.grid_hw)


def find_rule(name: str) -> LocalCutRule:
    """Find a rule by its name in LOCAL_CUTS, or a function of another module by MODULE.FUNCTION.

    Raises:
        ValueError: there is no such rule.
    """
    if name in LOCAL_CUTS:
        return LOCAL_CUTS[name]
    module, _, function = name.rpartition('.')
    try:
        rule: LocalCutRule = getattr(import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f'capacity must be {", ".join(LOCAL_CUTS)}, or MODULE.FUNCTION of a package or a file '
            f'in the folder of CONFIG, got {name!r}: {error}; a file of another folder: '
            '--import FILE.py'
        ) from error
    return rule


def _terminals(magnitude: Double, is_inside: Mask, fraction: float) -> tuple[Index, Index]:
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
    length: Double  # (E,) Euclidean, in the unit of the points


def connect_neighbors(points: Float, num_neighbors: int) -> Edges:
    """Connect every point to its nearest ones; an edge counts if either end chose it.

    Args:
        points: (n, 3). Fewer than `num_neighbors` + 1 points are all connected.
    """
    from scipy.spatial import cKDTree  # a tenth of a second that cuts on the grid need not take

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


def connect_patches(patches: Index, depth: Float, grid_hw: tuple[int, int]) -> Edges:
    """Connect patches that touch on the grid, corners included.

    All neighbours are connected. Among the k nearest in 3D, many lie at equal distances on the
    grid, and which of them are connected would be arbitrary.

    Args:
        patches: (n,) indices into the grid, rising.
        depth: (n,) of each.

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
    capacities: Double,
    sources: Index,
    sinks: Index,
) -> Mask:
    """Cut the sources off the sinks at the least total capacity.

    Of all minimum cuts the one with the smallest source side is returned: the nodes that
    the sources still reach in the residual graph. It is unique, so that the choice of solver
    cannot change a mask.

    Args:
        edges: undirected.
        capacities: (E,) non-negative. They are rounded to integers, with their sum scaled
            to 2^30, and an edge of positive capacity keeps at least one unit.
        sources: indices of the nodes tied to the source, at least one.
        sinks: indices of the nodes tied to the sink; where it is empty nothing is cut, and
            all that the sources reach is returned.

    Returns:
        (n,) True on the source side.

    Raises:
        ValueError: a node is source and sink at once, or a capacity is negative or not finite.
    """
    if capacities.shape != edges.first.shape or not (
        np.isfinite(capacities).all() and (capacities >= 0).all()
    ):
        raise ValueError(
            f'capacities must be {edges.first.shape} finite numbers that must not be negative, '
            f'got {capacities.shape} from {capacities.min(initial=0)}'
        )
    terminal = np.zeros(num_nodes, np.int8)
    terminal[sources] = _SOURCE
    if terminal[sinks].any():
        raise ValueError('sources and sinks must not share a node')
    terminal[sinks] = _SINK
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


def cut_in_3d(
    semantic_mask: Mask,
    eigenvector: Double,
    depth: Float,
    params: LocalCutParams,
    confidence: ConfidenceParams | None,
) -> NDArray[np.bool_]:
    """Cut the instance around the strongest patch out of a semantic mask.

    With `params.evidence` the cut whose border depth supports best is taken, and cut again until
    depth supports no further cut. Cuts that part the core around the strongest patch from other
    cores come first; where none is supported, cuts between the ends of the eigenvector trim the
    rest. A crumb around the strongest patch that depth cuts off is set aside, and the rest is cut
    around its own strongest patch.

    Args:
        semantic_mask: (N,) patches of the semantic cut, at least one.
        eigenvector: (N,) larger means more foreground.
        depth: (h, w) in [0, 1], with h * w = N.
        params: how a cut is made and which one is taken.
        confidence: thresholds of the cuts; None: tau_knn alone.

    Returns:
        (T, N) cuts at rising thresholds; the last one is the instance.
    """
    evidence, share, inputs = params.evidence, params.min_share, (eigenvector, depth, params)
    component = around_strongest(semantic_mask, eigenvector, depth.shape)
    if evidence is None:
        cuts = _cuts(build_cloud(semantic_mask, *inputs), params, confidence)
        is_taken = cuts[-1].sum() >= share * component.sum()
        mask = cuts[-1] if is_taken else component
        return np.concatenate([cuts[:-1], mask[None]])
    for number in range(evidence.max_rounds):
        cloud = build_cloud(component, *inputs)
        radius = evidence.core_radius
        parted = part_cores(component, cloud, eigenvector, radius, params, confidence)
        kept = _supported(component, parted, depth, share, evidence, evidence.min_contrast)
        if kept is None:
            cuts = _cuts(cloud, params, confidence)
            least = evidence.again_contrast if number else evidence.min_contrast
            kept = _supported(component, cuts, depth, share, evidence, least)
            if kept is None:
                break
        component = around_strongest(kept, eigenvector, depth.shape)
    else:
        cuts = _cuts(build_cloud(component, *inputs), params, confidence)
    return np.concatenate([cuts[:-1], component[None]])


def part_cores(
    component: Mask,
    cloud: Cloud,
    eigenvector: Double,
    radius: int,
    params: LocalCutParams,
    confidence: ConfidenceParams | None,
) -> NDArray[np.bool_]:
    """Cut the core around the strongest patch off the other cores of a component.

    A core is what remains of the component, in one piece, when all patches near a depth step
    above a threshold are taken out. A bridge of a few patches, such as the floor under two
    objects, holds no core, and neither does the rim of a round object. At each threshold that
    leaves several cores the component is cut twice: with all edges, and without those above the
    threshold.

    Args:
        component: (N,) one 4-connected part of a semantic mask.
        cloud: cloud of the component.
        eigenvector: (N,) larger means more foreground.
        radius: patches beyond a depth step that belong to no core.
        confidence: thresholds; None: tau_knn alone.

    Returns:
        (K, N) cuts that hold the core of the strongest patch that lies in a core; K = 0 for a
        component with a single core at each threshold.
    """
    from scipy.ndimage import maximum_filter  # a quarter of a second to import

    steepest = np.where(component, 0.0, np.inf)  # depth step at or near each patch
    for end in (cloud.edges.first, cloud.edges.second):
        np.maximum.at(steepest, cloud.patches[end], cloud.edges.length)
    near = maximum_filter(steepest.reshape(cloud.grid_hw), 2 * radius + 1, mode='nearest').ravel()
    cuts = []
    for tau in _thresholds(params.tau_knn, confidence):
        core = near <= tau
        if not core.any():
            continue
        own = around_strongest(core, eigenvector, cloud.grid_hw)
        is_other = core & ~own
        if is_other.any():
            ends = np.flatnonzero(own[cloud.patches]), np.flatnonzero(is_other[cloud.patches])
            cores = replace(cloud, sources=ends[0], sinks=ends[1])
            cuts += [cut_cloud(cores, longest, params) for longest in (np.inf, float(tau))]
    return np.array(cuts, bool).reshape(-1, len(component))


def _supported(
    component: Mask,
    cuts: NDArray[np.bool_],
    depth: Float,
    min_share: float,
    evidence: EvidenceParams,
    least_contrast: float,
) -> Mask | None:
    """The part of a component whose border depth supports best; None where it supports none.

    It is a cut, or what a cut that is too small leaves of the component.
    """
    is_new = np.append((cuts[1:] != cuts[:-1]).any(axis=1), np.ones(min(len(cuts), 1), bool))
    cuts = cuts[is_new]  # many thresholds give the same cut
    is_large = cuts.sum(axis=1) >= max(min_share * component.sum(), evidence.min_patches)
    for parts in (cuts[is_large], component & ~cuts[~is_large]):
        contrasts = np.zeros(len(parts))
        for index in np.flatnonzero(parts.sum(axis=1) >= evidence.min_patches):
            masks = parts[index].reshape(depth.shape), component.reshape(depth.shape)
            contrasts[index] = border_contrast(*masks, depth, evidence.step_floor)
        if (contrasts > least_contrast + _TIE).any():
            best: Mask = parts[np.flatnonzero(contrasts > contrasts.max() - _TIE)[-1]]
            return best  # the one at the largest threshold of those that tie
    return None


def around_strongest(mask: Mask, eigenvector: Double, grid_hw: tuple[int, ...]) -> Mask:
    """The 4-connected part of a (N,) mask that holds its strongest patch."""
    seed = int(np.argmax(np.where(mask, np.abs(eigenvector), -1)))
    return component_at(mask, seed, grid_hw)


def _cuts(
    cloud: Cloud, params: LocalCutParams, confidence: ConfidenceParams | None
) -> NDArray[np.bool_]:
    """The cuts between the ends of the eigenvector at rising thresholds, (T, N)."""
    cuts: list[Mask] = []
    previous = np.inf
    for tau in _thresholds(params.tau_knn, confidence):
        is_between = (cloud.edges.length > previous) & (cloud.edges.length <= tau)
        if params.capacity == 'affinity' or not cuts or is_between.any():
            cuts.append(cut_cloud(cloud, float(tau), params))
        else:
            cuts.append(cuts[-1])  # the same edges
        previous = tau
    return np.stack(cuts)


def _thresholds(tau_knn: float, params: ConfidenceParams | None) -> Double:
    if params is None:
        return np.array([tau_knn])
    between = np.linspace if params.spacing == 'linear' else np.geomspace
    return between(params.tau_min_ratio * tau_knn, tau_knn, params.num_cuts)


def spatial_confidence(cuts: NDArray[np.bool_]) -> Float:
    """Average LocalCut over thresholds (Eq. 4), (N,): in [1 / T, 1] inside the mask, 0 outside."""
    return np.where(cuts[-1], cuts.mean(axis=0), 0).astype(np.float32)
