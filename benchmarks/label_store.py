"""A store of 1.3 million images: seconds to open, memory of each further data worker.

    python benchmarks/label_store.py OUT [--images 1300000]

OUT needs about 3 GB and is kept; run again, it is not written again.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from cuts3d_mm.datasets import PseudoLabelDataset
from cuts3d_mm.labels.record import ImageRecord, encode_instance
from cuts3d_mm.labels.store import shard_path, write_shard

PER_SHARD = 650
DISTINCT = 8  # shards of different content; the rest are copies under other names


def write_store(folder: Path, num_images: int) -> None:
    """Images of three instances with run-length codes and confidence of usual size."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    pool = [_instance(rng) for _ in range(200)]
    for shard in range(-(-num_images // PER_SHARD)):
        path = shard_path(folder, shard)
        if path.is_file():
            continue
        if shard >= DISTINCT:
            path.write_bytes(shard_path(folder, shard % DISTINCT).read_bytes())
            continue
        picks = rng.integers(0, len(pool), (PER_SHARD, 3))
        names = [f'n{shard:08d}/{n:08d}.JPEG' for n in range(PER_SHARD)]
        records = [
            ImageRecord(name, (375, 500), tuple(pool[i] for i in row))
            for name, row in zip(names, picks, strict=True)
        ]
        write_shard(folder, shard, records)


def _instance(rng: np.random.Generator) -> Any:
    rows, columns = np.mgrid[:375, :500]
    y, x, radius = rng.uniform(80, 300), rng.uniform(80, 400), rng.uniform(20, 75)
    noise = rng.normal(0, 2, (375, 1))
    mask = (rows - y) ** 2 + (columns - x + noise) ** 2 <= radius**2
    grid = np.zeros((60, 60), np.float32)
    top, left = int(y / 375 * 60), int(x / 500 * 60)
    grid[top - 6 : top + 6, left - 6 : left + 6] = rng.uniform(0.5, 1, (12, 12))
    return encode_instance(mask, grid, 0.8)


def open_seconds(folder: Path) -> tuple[float, PseudoLabelDataset]:
    """Time of opening the data set."""
    start = time.perf_counter()
    dataset = PseudoLabelDataset(
        ann_file=str(folder), filter_cfg={'filter_empty_gt': True, 'min_size': 32}, pipeline=[]
    )
    return time.perf_counter() - start, dataset


def read_in_worker(dataset: PseudoLabelDataset, count: int, queue: Any) -> None:
    """Read samples at random; report the memory that only this process holds.

    That is its private dirty pages: those of the mapped file are the system's cache, shared by
    all processes and given back when memory runs short.
    """
    before = _private_mib()
    rng = np.random.default_rng()
    start = time.perf_counter()
    for index in rng.integers(0, len(dataset), count):
        dataset.get_data_info(int(index))
    seconds = (time.perf_counter() - start) / count
    queue.put((before, _private_mib(), seconds))


def _private_mib() -> float:
    return sum(part.private_dirty for part in psutil.Process().memory_maps()) / 2**20


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('out', type=Path)
    parser.add_argument('--images', type=int, default=1_300_000)
    parser.add_argument('--samples', type=int, default=3000, help='samples that a worker reads')
    args = parser.parse_args()
    write_store(args.out, args.images)
    (args.out / 'unpacked.arrow').unlink(missing_ok=True)
    first, dataset = open_seconds(args.out)
    again, dataset = open_seconds(args.out)
    print(f'{len(dataset)} images; opened the first time in {first:.1f} s, then in {again:.2f} s')
    for method in ('fork', 'spawn'):
        context = multiprocessing.get_context(method)
        queue = context.Queue()
        worker = context.Process(target=read_in_worker, args=(dataset, args.samples, queue))
        worker.start()
        before, after, seconds = queue.get()
        worker.join()
        print(
            f'worker by {method}: {before:.0f} MiB of its own when started, {after:.0f} MiB after '
            f'{args.samples} samples, {seconds * 1e3:.2f} ms per sample'
        )


if __name__ == '__main__':
    main()
