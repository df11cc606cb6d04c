"""Labelling photos before and after: images/s, CPU time by stage, equality of the masks.

    python benchmarks/pipeline.py --photos DIR --before REVISION [--num 120] [--features vit-s8]

DIR has images/ and depth/. REVISION is checked out into a temporary folder, or is the folder of
another checkout; its commands and those of this tree take turns.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cuts3d_mm.algorithm.masks import mask_iou
from cuts3d_mm.labels.record import decode_mask
from cuts3d_mm.labels.store import read_store

HERE = Path(__file__).parents[1]
MODEL = """
model = dict(
    type='cuts3d_mm.PseudoLabelGenerator',
    features={features},
    depth=dict(type='cuts3d_mm.DepthFromFile', root={depth!r}, larger_is='far'),
    recipe=dict(preset='cuts3d'),
)
"""
BACKBONE = "dict(arch='deit-small', patch_size=8, img_size=224)"
FEATURES = {
    'color-texture': "dict(type='cuts3d_mm.ColorTextureFeatures')",
    'vit-s8': "dict(type='cuts3d_mm.ViTKeyFeatures', backbone={backbone}, checkpoint={weights!r})",
}


@dataclass(frozen=True)
class Run:
    """One run of `cuts3d generate`."""

    seconds: float
    cpu_seconds: float  # CPU time of all its processes


def main() -> None:
    """Run the benchmark."""
    args = parse_args()
    with tempfile.TemporaryDirectory() as name, before_tree(args.before) as old:
        folder = Path(name)
        config = write_config(folder, args)
        trees = {'before': old, 'after': HERE}
        for tree_name, tree in trees.items():  # compiles, and reads the photos into the cache
            run(tree, config, args, folder / f'warm-{tree_name}', 1, 2)
        for tree_name, tree in trees.items():
            print_stages(tree_name, tree, config, args)
        for workers in args.workers:
            compare(trees, config, args, folder, workers)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--photos', type=Path, required=True, metavar='DIR')
    parser.add_argument('--before', default='HEAD', metavar='REVISION')
    parser.add_argument('--num', type=int, default=120, help='photos (default 120)')
    parser.add_argument('--features', choices=FEATURES, default='color-texture')
    parser.add_argument('--workers', type=int, nargs='+', default=[1, 2])
    return parser.parse_args()


@contextmanager
def before_tree(revision: str) -> Iterator[Path]:
    """Check a revision out for as long as the block runs; the folder of a checkout is as it is."""
    if Path(revision).is_dir():
        yield Path(revision).resolve()
        return
    with tempfile.TemporaryDirectory() as name:
        tree = Path(name) / 'before'
        git = ['git', '-C', str(HERE), 'worktree']
        subprocess.run([*git, 'add', '-q', '--detach', str(tree), revision], check=True)
        try:
            yield tree
        finally:
            subprocess.run([*git, 'remove', '--force', str(tree)], check=True)


def write_config(folder: Path, args: argparse.Namespace) -> Path:
    """Write the config of the generator, and random weights if it needs some."""
    weights = folder / 'vit.pth'
    if args.features == 'vit-s8':
        import torch

        from cuts3d_mm.labellers.features.vit import ViTKeyFeatures

        torch.manual_seed(0)
        backbone = {'arch': 'deit-small', 'patch_size': 8, 'img_size': 224}
        torch.save(ViTKeyFeatures(backbone).network.state_dict(), weights)
    features = FEATURES[args.features].format(backbone=BACKBONE, weights=str(weights))
    path = folder / 'generator.py'
    path.write_text(MODEL.format(features=features, depth=str(args.photos / 'depth')))
    return path


def run(
    tree: Path, config: Path, args: argparse.Namespace, out: Path, workers: int, num: int
) -> Run:
    """Run `cuts3d generate` of a tree."""
    command = [sys.executable, '-m', 'cuts3d_mm', 'generate', config, args.photos / 'images', out]
    command += ['--limit', str(num), '--workers', str(workers)]
    environment = {**os.environ, 'PYTHONPATH': str(tree), 'OMP_NUM_THREADS': '1'}
    started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, env=environment, cwd=out.parent, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Run(time.monotonic() - started, cpu)


def compare(
    trees: dict[str, Path], config: Path, args: argparse.Namespace, folder: Path, workers: int
) -> None:
    """Print the rates of both trees, start-up included, and how their masks differ."""
    stores = {name: folder / f'{name}-{workers}' for name in trees}
    runs = {n: run(trees[n], config, args, stores[n], workers, args.num) for n in trees}
    for name, one in runs.items():
        rate, cpu = args.num / one.seconds, 1e3 * one.cpu_seconds / args.num
        print(f'{workers} workers, {name}: {rate:.2f} images/s, {cpu:.0f} CPU ms per image')
    ratio = runs['before'].cpu_seconds / runs['after'].cpu_seconds
    print(f'{workers} workers: {ratio:.2f}x less CPU; {equality(stores)}')


def equality(stores: dict[str, Path]) -> str:
    """Say how the masks of two stores differ."""
    ious, uneven = [], 0
    for old, new in zip(read_store(stores['before']), read_store(stores['after']), strict=True):
        uneven += len(old.instances) != len(new.instances)
        for one, other in zip(old.instances, new.instances, strict=False):
            pair = [decode_mask(record, old.image_hw) for record in (one, other)]
            ious.append(mask_iou(*pair))
    same = sum(iou == 1 for iou in ious)
    return (
        f'{len(ious)} masks, {same} equal, least IoU {np.min(ious):.5f}, '
        f'{uneven} images with another number of masks'
    )


def print_stages(name: str, tree: Path, config: Path, args: argparse.Namespace) -> None:
    """Print the CPU time of each stage, measured in one process of a tree."""
    command = [sys.executable, str(HERE / 'benchmarks/stage_times.py'), str(config)]
    command += [str(args.photos / 'images'), str(args.num)]
    environment = {**os.environ, 'PYTHONPATH': str(tree), 'OMP_NUM_THREADS': '1'}
    found = subprocess.run(command, check=True, env=environment, capture_output=True, text=True)
    times = json.loads(found.stdout.strip().splitlines()[-1])
    row = ', '.join(f'{stage} {1e3 * seconds / args.num:.1f}' for stage, seconds in times.items())
    print(f'{name}, CPU ms per image: {row}')


if __name__ == '__main__':
    main()
