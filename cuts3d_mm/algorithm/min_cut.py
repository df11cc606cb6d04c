"""Find the minimum cut of a weighted graph between sources and sinks.

The only file that knows a maximum-flow solver.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cuts3d_mm.algorithm.kernels.kernel import Kernel
from cuts3d_mm.algorithm.knn_graph import Edges
from cuts3d_mm.arrays import Index, Mask

_FLOW_LIMIT = 2**30  # SciPy counts flow in int32
_NEITHER, _SOURCE, _SINK = range(3)


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
