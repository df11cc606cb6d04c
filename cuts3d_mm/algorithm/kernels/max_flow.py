"""Find what the sources of a graph still reach under a maximum flow to its sinks.

The method of Dinic (1970): while the sinks can be reached, send along shortest paths whatever
they carry. Capacities are integers, so that the answer does not depend on the order of the paths.
"""

from __future__ import annotations

import numpy as np
from numba import njit

_UNSEEN = -1
# Inlined: compiled once, not also on its own and with each helper that calls it.
_helper = njit(cache=True, inline='always')


@njit(cache=True)
def source_side(first, second, units, num_nodes, sources, sinks):  # type: ignore[no-untyped-def]
    """Return (n,) True where the sources reach in the residual graph of a maximum flow.

    Args:
        units: (E,) capacity of the edges from `first` to `second` and back, integers.
    """
    start, head, reverse, residual = _arrange(first, second, units, num_nodes)
    queue = np.empty(num_nodes, np.int32)
    distance = np.empty(num_nodes, np.int32)
    is_source = np.zeros(num_nodes, np.bool_)
    is_source[sources] = True
    path = np.empty(num_nodes, np.int32)
    current = np.empty(num_nodes, np.int32)
    while _measure_distances(start, head, reverse, residual, sinks, is_source, distance, queue):
        for node in range(num_nodes):  # NumPy's copy would take seconds to compile
            current[node] = start[node]
        for source in sources:
            if distance[source] > 0:
                _send_from(source, start, head, reverse, residual, distance, current, path)
    return _reached(start, head, residual, sources, queue)


@_helper
def _arrange(first, second, units, num_nodes):  # type: ignore[no-untyped-def]
    """Sort the two directions of every edge, called arcs, by the node where they start.

    Returns:
        start: (n + 1,) first arc of each node.
        head: (2E,) node at the end of each arc.
        reverse: (2E,) the arc of the same edge in the other direction.
        residual: (2E,) what each arc can still carry.
    """
    start = np.zeros(num_nodes + 1, np.int32)
    for edge in range(len(first)):
        start[first[edge] + 1] += 1
        start[second[edge] + 1] += 1
    for node in range(num_nodes):
        start[node + 1] += start[node]
    place = start.copy()
    head = np.empty(2 * len(first), np.int32)
    reverse = np.empty(2 * len(first), np.int32)
    residual = np.empty(2 * len(first), np.int64)
    for edge in range(len(first)):
        one, other = place[first[edge]], place[second[edge]]
        place[first[edge]] += 1
        place[second[edge]] += 1
        head[one], head[other] = second[edge], first[edge]
        reverse[one], reverse[other] = other, one
        residual[one] = residual[other] = units[edge]
    return start, head, reverse, residual


@_helper
def _measure_distances(start, head, reverse, residual, sinks, is_source, distance, queue):  # type: ignore[no-untyped-def]
    """Count the arcs on the shortest path from each node to a sink, up to the nearest source."""
    distance[:] = _UNSEEN
    count = 0
    for sink in sinks:
        distance[sink] = 0
        queue[count] = sink
        count += 1
    nearest, index = len(queue) + 1, 0
    while index < count and distance[queue[index]] < nearest:
        node = queue[index]
        index += 1
        for arc in range(start[node], start[node + 1]):
            other = head[arc]
            if distance[other] == _UNSEEN and residual[reverse[arc]] > 0:
                distance[other] = distance[node] + 1
                if is_source[other]:
                    nearest = distance[other]
                else:
                    queue[count] = other
                    count += 1
    return nearest <= len(queue)


@_helper
def _send_from(source, start, head, reverse, residual, distance, current, path):  # type: ignore[no-untyped-def]
    """Send along shortest paths from a source until none is left."""
    node, length = source, 0
    while True:
        if distance[node] == 0:
            length = _augment(residual, reverse, path, length)
            node = head[reverse[path[length]]]
        arc, end = current[node], start[node + 1]
        while arc < end and not (residual[arc] > 0 and distance[head[arc]] == distance[node] - 1):
            arc += 1
        current[node] = arc
        if arc < end:
            path[length] = arc
            length += 1
            node = head[arc]
        elif length == 0:
            return
        else:
            distance[node] = _UNSEEN - 1
            length -= 1
            node = head[reverse[path[length]]]


@_helper
def _augment(residual, reverse, path, length):  # type: ignore[no-untyped-def]
    """Send what a path carries; return the position of its first arc that is full."""
    least = residual[path[0]]
    for index in range(1, length):
        least = min(least, residual[path[index]])
    full = length
    for index in range(length - 1, -1, -1):
        arc = path[index]
        residual[arc] -= least
        residual[reverse[arc]] += least
        if residual[arc] == 0:
            full = index
    return full


@_helper
def _reached(start, head, residual, sources, queue):  # type: ignore[no-untyped-def]
    is_reached = np.zeros(len(queue), np.bool_)
    count = 0
    for source in sources:
        is_reached[source] = True
        queue[count] = source
        count += 1
    index = 0
    while index < count:
        node = queue[index]
        index += 1
        for arc in range(start[node], start[node + 1]):
            if residual[arc] > 0 and not is_reached[head[arc]]:
                is_reached[head[arc]] = True
                queue[count] = head[arc]
                count += 1
    return is_reached
