"""Simulate a run on a cluster: how large may a shard be before machines wait for the last ones?

Each worker takes the next shard when it is free, as the executors hand them out. A shard costs
a fixed time besides its images, images differ, and so do machines.

    python benchmarks/cluster_simulation.py
"""

from __future__ import annotations

import argparse
import heapq
from dataclasses import dataclass

import numpy as np

SIZES = (8, 16, 32, 64, 128, 256, 512)


@dataclass(frozen=True)
class Cluster:
    """Assumptions; the CPU time of an image is what `pipeline.py` measures."""

    nodes: int = 100
    cores: int = 16  # workers per node
    image_s: float = 0.35  # mean CPU time of an image on an ordinary core
    image_spread: float = 0.4  # sigma of its logarithm
    shard_s: float = 0.5  # time to schedule a shard, open its images and publish it
    start_s: float = 15.0  # start of a worker: imports and networks
    slow_nodes: float = 0.05  # share of nodes with half the speed
    node_spread: float = 0.03  # sigma of the speed of the others


def simulate(
    images: int, size: int, cluster: Cluster, rng: np.random.Generator
) -> tuple[float, float, float]:
    """Run all shards.

    Returns:
        Seconds to the end, share of the workers' time spent waiting, and on shard overhead.
    """
    sizes = np.full(-(-images // size), size)
    sizes[-1] = images - size * (len(sizes) - 1)
    sigma = cluster.image_spread
    # The sum of many log-normal times, by its mean and variance.
    spread = np.sqrt(sizes * (np.exp(sigma**2) - 1))
    work = cluster.image_s * np.maximum(sizes + spread * rng.standard_normal(len(sizes)), 1)
    speed = np.exp(cluster.node_spread * rng.standard_normal(cluster.nodes))
    speed[rng.permutation(cluster.nodes)[: round(cluster.slow_nodes * cluster.nodes)]] *= 0.5
    free = [(cluster.start_s, w) for w in range(cluster.nodes * cluster.cores)]
    heapq.heapify(free)
    busy = end = overhead = 0.0
    for seconds in work:
        begin, worker = heapq.heappop(free)
        cost = (seconds + cluster.shard_s) / speed[worker // cluster.cores]
        overhead += cluster.shard_s / speed[worker // cluster.cores]
        busy, end = busy + cost, max(end, begin + cost)
        heapq.heappush(free, (begin + cost, worker))
    total = end * cluster.nodes * cluster.cores
    started = cluster.start_s * cluster.nodes * cluster.cores
    return end, 1 - (busy + started) / total, overhead / total


def main() -> None:
    """Print a table for each number of nodes."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--images', type=int, default=1_281_167, help='as many as ImageNet has')
    parser.add_argument('--nodes', type=int, nargs='+', default=[10, 100])
    parser.add_argument('--runs', type=int, default=5)
    args = parser.parse_args()
    for nodes in args.nodes:
        cluster = Cluster(nodes)
        even = args.images * cluster.image_s / nodes / cluster.cores
        print(f'\n{nodes} nodes of {cluster.cores} cores, {even:.0f} s of work for each core')
        print('| images per shard | shards | time s | idle % | overhead % | lost by a kill s |')
        print('|---|---|---|---|---|---|')
        for size in SIZES:
            runs = [
                simulate(args.images, size, cluster, np.random.default_rng(seed))
                for seed in range(args.runs)
            ]
            end, idle, overhead = np.mean(runs, axis=0)
            lost = size * cluster.image_s / 2
            print(
                f'| {size} | {-(-args.images // size)} | {end:.0f} | {100 * idle:.1f} | '
                f'{100 * overhead:.1f} | {lost:.0f} |'
            )


if __name__ == '__main__':
    main()
