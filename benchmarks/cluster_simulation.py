"""Simulate a run on a cluster: how much of the cores' time is spent on images?

Each worker takes the next shard when it is free, as the executors hand them out. Nothing here is
measured on a cluster: the assumptions are printed.

    python benchmarks/cluster_simulation.py
"""

from __future__ import annotations

import argparse
import heapq
from collections import deque
from dataclasses import asdict, dataclass

import numpy as np

from cuts3d_mm.labels.store import ShardSize
from cuts3d_mm.pipeline.run import images_per_shard, shard_starts


@dataclass(frozen=True)
class Cluster:
    """Assumptions; docs/speed.md says which of them are measured."""

    cores: int = 16  # workers of a node
    image_s: float = 0.27  # mean CPU time of an image while the other cores are idle
    load_factor: float = 1.2  # on that time while they work: they share caches and memory
    image_spread: float = 0.4  # sigma of the logarithm of that time
    shard_s: float = 0.05  # time to begin a shard and to write its file
    driver_s: float = 0.003  # time of the driver for a shard, one after the other
    storage_s: float = 0.005  # latency of shared storage, for each image
    storage_bytes_s: float = 2e9  # rate of shared storage for the whole cluster
    image_bytes: float = 110e3  # mean size of a file
    join_s: float = 20.0  # nodes come one by one in this time
    start_s: float = 5.0  # start of a worker: imports and networks
    slow_nodes: float = 0.05  # share of nodes with half the speed
    node_spread: float = 0.03  # sigma of the speed of the others
    lost_nodes: float = 0.01  # share of nodes that are lost, at some moment of the run


@dataclass(frozen=True)
class Outcome:
    """Shares of the time of all cores, from when they join to the end or until they are lost."""

    seconds: float
    images: float  # work on images that count
    start: float
    shards: float  # begin and end of shards, driver, storage
    lost: float  # work that was made again
    idle: float  # no shard was left


def simulate(
    num_images: int, nodes: int, size: ShardSize, cluster: Cluster, rng: np.random.Generator
) -> Outcome:
    """Run all shards of a plan."""
    starts = shard_starts(num_images, size)
    sizes = np.diff([*starts, num_images])
    mean = cluster.image_s * cluster.load_factor
    # The sum of many log-normal times, by its mean and variance.
    spread = np.sqrt(sizes * (np.exp(cluster.image_spread**2) - 1))
    work = mean * np.maximum(sizes + spread * rng.standard_normal(len(sizes)), 0.5)
    speed = np.exp(cluster.node_spread * rng.standard_normal(nodes))
    speed[rng.permutation(nodes)[: round(cluster.slow_nodes * nodes)]] *= 0.5
    workers = nodes * cluster.cores
    read_s = max(cluster.storage_s, workers * cluster.image_bytes / cluster.storage_bytes_s - mean)
    about_s = num_images * (mean + read_s) / workers
    ends = np.full(nodes, np.inf)
    lost = rng.permutation(nodes)[: round(cluster.lost_nodes * nodes)]
    ends[lost] = rng.uniform(0, about_s, len(lost))
    joined = np.repeat(np.sort(rng.uniform(0, cluster.join_s, nodes)), cluster.cores)
    free = [(joined[w] + cluster.start_s, w) for w in range(workers)]
    heapq.heapify(free)
    slot = [joined[w] for w in range(workers)]  # when a worker had room for its next shard
    shards, totals = deque(range(len(sizes))), np.zeros(3)  # images, overhead, lost work
    driver, end = 0.0, 0.0
    while shards:
        now, worker = heapq.heappop(free)
        node = worker // cluster.cores
        shard = shards.popleft()
        driver = max(driver, slot[worker]) + cluster.driver_s
        begin = max(now, driver)
        overhead = cluster.shard_s + sizes[shard] * read_s
        cost = work[shard] / speed[node] + overhead
        if begin + cost > ends[node]:  # the node is lost, and another does the shard at once
            totals[2] += max(ends[node] - now, 0)
            shards.appendleft(shard)
            continue
        totals += (work[shard] / speed[node], overhead + begin - now, 0)
        slot[worker], end = begin, max(end, begin + cost)
        heapq.heappush(free, (begin + cost, worker))
    cores_s = float((np.minimum(np.repeat(ends, cluster.cores), end) - joined).clip(0).sum())
    images, shards_s, lost_s = totals / cores_s
    start = workers * cluster.start_s / cores_s
    idle = 1 - images - shards_s - lost_s - start
    return Outcome(end, images, start, shards_s, lost_s, idle)


def main() -> None:
    """Print the assumptions, and a table for plans of even shards and for ours."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--images', type=int, default=1_281_167, help='as many as ImageNet has')
    parser.add_argument('--nodes', type=int, nargs='+', default=[1, 10, 100, 300])
    parser.add_argument('--runs', type=int, default=5)
    args = parser.parse_args()
    cluster, ours = Cluster(), images_per_shard(args.images)
    print(', '.join(f'{name} {value:g}' for name, value in asdict(cluster).items()))
    print('\n| nodes | images per shard | time s | images % | start | shards | lost | idle |')
    print('| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |')
    for nodes in args.nodes:
        for size in (64, 8, ours):
            runs = [
                simulate(args.images, nodes, size, cluster, np.random.default_rng(seed))
                for seed in range(args.runs)
            ]
            seconds, *shares = np.mean([list(asdict(run).values()) for run in runs], axis=0)
            figures = ' | '.join(f'{100 * share:.1f}' for share in shares)
            print(f'| {nodes} | {size} | {seconds:.0f} | {figures} |')


if __name__ == '__main__':
    main()
