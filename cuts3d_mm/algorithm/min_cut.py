"""Find the minimum cut of a weighted graph between sources and sinks.

The only file that knows a maximum-flow solver.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import breadth_first_order, maximum_flow

from cuts3d_mm.algorithm.knn_graph import Edges
from cuts3d_mm.arrays import Index, Mask

_FLOW_LIMIT = 2**30  # scipy counts flow in int32


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
    # All sources become node 0 and all sinks node 1: no infinite capacities are needed.
    node = np.arange(2, num_nodes + 2)
    node[sources], node[sinks] = 0, 1
    graph = _integer_graph(node[edges.first], node[edges.second], capacities, num_nodes + 2)
    reached = breadth_first_order(graph, 0, return_predecessors=False)
    if sinks.size and 1 in reached:
        residual = graph - maximum_flow(graph, 0, 1, method='dinic').flow
        residual.eliminate_zeros()
        reached = breadth_first_order(residual, 0, return_predecessors=False)
    is_reached = np.zeros(num_nodes + 2, bool)
    is_reached[reached] = True
    return is_reached[node]


def _integer_graph(
    first: Index, second: Index, capacities: NDArray[np.float64], size: int
) -> csr_array:
    keep = (first != second) & (capacities > 0)
    first, second, capacities = first[keep], second[keep], capacities[keep]
    scale = _FLOW_LIMIT / max(capacities.sum(), 1e-9)
    units = np.maximum(np.rint(capacities * scale), 1).astype(np.int32)
    ends = np.concatenate([first, second]), np.concatenate([second, first])
    graph = coo_array((np.concatenate([units, units]), ends), shape=(size, size)).tocsr()
    graph.indices, graph.indptr = graph.indices.astype(np.int32), graph.indptr.astype(np.int32)
    return graph
