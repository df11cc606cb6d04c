"""The same photos through local processes and Ray on one machine: equal bytes, and both rates.

    python benchmarks/ray_rate.py --photos DIR [--num 120] [--workers 2]

DIR has images/ and depth/. Rates leave out the start of the workers: they begin when the first
shard is there.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from cuts3d_mm.images.listing import list_images
from cuts3d_mm.labels.store import Counts
from cuts3d_mm.pipeline.local import LocalExecutor
from cuts3d_mm.pipeline.progress import Report
from cuts3d_mm.pipeline.ray import RayExecutor
from cuts3d_mm.pipeline.run import Executor, Split, label_images
from cuts3d_mm.pipeline.work import ConfiguredLabeller, WorkOrder


class Clock:
    """Takes the time at which images are done."""

    def __init__(self) -> None:
        self.began_s = time.monotonic()
        self.done: list[tuple[float, int]] = []  # seconds since the begin, images until then
        self.cpu_s = 0.0  # CPU time of all stages in all processes

    def start(self, total_images: int, done: Counts) -> None:
        """Nothing to do: the store is new."""

    def add(self, report: Report) -> None:
        """Take note of images."""
        self.cpu_s += sum(span.cpu_seconds for span in report.spans)
        if report.counts.images:
            before = self.done[-1][1] if self.done else 0
            self.done.append((time.monotonic() - self.began_s, before + report.counts.images))

    def rate(self) -> float:
        """Images/s between the first report and the last."""
        (first_s, first), (last_s, last) = self.done[0], self.done[-1]
        return (last - first) / max(last_s - first_s, 1e-9)


def main() -> None:
    """Run the benchmark."""
    args = parse_args()
    os.environ['RAY_worker_niceness'] = '0'  # as local processes have it
    import ray

    with tempfile.TemporaryDirectory() as name:
        local = label('local', LocalExecutor(args.workers), Path(name) / 'local', args)
        with ray.init(num_cpus=args.workers, include_dashboard=False, log_to_driver=False) as head:
            executor = RayExecutor(head.address_info['gcs_address'])
            clustered = label('ray', executor, Path(name) / 'ray', args)
    same = sum(clustered.get(name) == found for name, found in local.items())
    print(f'{same} of {len(local)} files of the local store have the same bytes under Ray')


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--photos', type=Path, required=True, metavar='DIR')
    parser.add_argument('--num', type=int, default=120, help='photos (default 120)')
    parser.add_argument(
        '--workers', type=int, default=2, help='worker processes of both (default 2)'
    )
    return parser.parse_args()


def label(kind: str, executor: Executor, out: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Label the photos, print the rate, and return the files of the store."""
    depth = {'type': 'cuts3d_mm.DepthFromFile', 'root': str(args.photos / 'depth')}
    features = {'type': 'cuts3d_mm.ColorTextureFeatures'}
    model = {'type': 'cuts3d_mm.PseudoLabelGenerator', 'features': features, 'depth': depth}
    images = list_images(args.photos / 'images').first(args.num)
    order = WorkOrder(ConfiguredLabeller(model), images.root, out, batch_size=1)
    clock, load = Clock(), os.getloadavg()[0]
    label_images(order, images, executor, Split(), clock)
    print(
        f'{kind}: {clock.rate():.2f} images/s after the start, {clock.done[-1][0]:.1f} s in all, '
        f'{1e3 * clock.cpu_s / args.num:.0f} CPU ms per image; '
        f'load {load:.1f} before, {os.getloadavg()[0]:.1f} after'
    )
    return {path.name: path.read_bytes() for path in out.glob('[!.]*')}


if __name__ == '__main__':
    main()
