"""Run a command that labels many images: its arguments, its checks, its devices."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cuts3d_mm.arguments import IMAGES_HELP, images_path, local_place, place
from cuts3d_mm.cli import EXIT_FAILURES
from cuts3d_mm.paths import require_writable
from cuts3d_mm.shared_arguments import add_exclude_argument, add_max_failures_argument

if TYPE_CHECKING:
    from cuts3d_mm.images.listing import ImageList

Config = dict[str, Any]


def add_labelling_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what a command that labels many images needs."""
    parser.add_argument('images', type=images_path, metavar='IMAGES', help=IMAGES_HELP)
    parser.add_argument(
        'out',
        type=place,
        metavar='OUT',
        help='label store to write, a folder or s3://BUCKET/PREFIX',
    )
    # --shard is the name of earlier releases.
    parser.add_argument(
        '--part', '--shard', default='0/1', metavar='I/N', help='do part I (from 0) of N'
    )
    parser.add_argument('--limit', type=int, metavar='N', help='only the first N images by name')
    add_exclude_argument(parser)
    parser.add_argument(
        '--profile',
        type=local_place,
        metavar='FILE',
        help='write a trace of the stages for chrome://tracing, JSON, and print a table of them',
    )
    add_max_failures_argument(parser)
    _add_executor_arguments(parser)


def _add_executor_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--workers',
        type=int,
        metavar='N',
        help='processes, of one thread each; 0: this process (default: all cores)',
    )
    parser.add_argument(
        '--devices',
        '--device',
        default='auto',
        metavar='DEVICES',
        help='of the networks, such as cpu, cuda:0 or 0,1; each GPU, and cpu:0, gets a process '
        'that feeds the workers (default auto: all GPUs, else the CPU in every worker)',
    )
    _add_cluster_arguments(parser)


def _add_cluster_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--executor',
        choices=['local', 'ray'],
        default='local',
        help='where the work is done: on this machine, or on all machines of a Ray cluster',
    )
    parser.add_argument(
        '--address',
        default='auto',
        help='of the Ray cluster, HOST:PORT of its head (default auto: RAY_ADDRESS, or the one '
        'that runs on this machine)',
    )


def label_many(
    args: argparse.Namespace,
    make_model: Callable[[], Config],
    custom_imports: Config | None,
    batch_size: int | None,
    adapt: Callable[[Config, str], Config] = lambda model, device: model,
) -> int:
    """Run a command that labels many images, by what `add_labelling_arguments` has read.

    Args:
        args: the command line.
        make_model: makes the config of what labels an image; called when all that is quick to
            check is right, as it may read or download weights.
        custom_imports: modules that worker processes import before they build it, as in configs.
        batch_size: images that go through the networks together; None: by the memory of the
            device.
        adapt: fits the config to the device of the networks.

    Returns:
        The exit code.
    """
    from cuts3d_mm.labellers.build import check_labeller, fetch_weights
    from cuts3d_mm.pipeline.batch_size import choose_batch_size
    from cuts3d_mm.pipeline.devices import resolve_devices
    from cuts3d_mm.pipeline.plan import Split
    from cuts3d_mm.pipeline.profile_report import profiled
    from cuts3d_mm.pipeline.progress import ProgressLine
    from cuts3d_mm.pipeline.run import label_images
    from cuts3d_mm.pipeline.work_order import ConfiguredLabeller, WorkOrder

    _check_numbers({'--workers': (args.workers, 0), '--batch-size': (batch_size, 1)})
    split, names = Split.parse(args.part), requested_devices(args, batch_size)
    require_writable(args.out, 'OUT')
    images = _list_images(args)
    model = make_model()
    check_labeller(model)
    fetch_weights(model)
    ConfiguredLabeller(model, custom_imports).import_parts()  # torch, if a network is among them
    devices = resolve_devices(names)
    labeller = ConfiguredLabeller(adapt(model, devices[0]), custom_imports)
    size = batch_size or choose_batch_size(args.out, devices[0])
    order = WorkOrder(labeller, images.root, args.out, size, devices[0])
    line = ProgressLine(f'labelling {args.images.name}')
    with line, profiled(line, args.profile) as progress:
        counts = label_images(order, images, _make_executor(args, devices), split, progress)
    return _report(counts, args)


def _list_images(args: argparse.Namespace) -> ImageList:
    from cuts3d_mm.images.exclusions import read_exclusions
    from cuts3d_mm.images.listing import list_images

    excluded = read_exclusions(args.exclude) if args.exclude else frozenset()
    return list_images(args.images).without(excluded).first(args.limit)


def requested_devices(args: argparse.Namespace, batch_size: int | None) -> tuple[str, ...]:
    """Read --devices; those of a cluster need not be there on this machine.

    Raises:
        ValueError: a name is no device, or this machine does not have it.
    """
    from cuts3d_mm.pipeline.devices import cluster_devices, parse_devices

    if args.executor == 'ray':
        if args.workers is not None:
            raise ValueError(
                '--workers must be left out with --executor ray: it uses all CPUs of the cluster'
            )
        return cluster_devices(args.devices, batch_size)
    return parse_devices(args.devices)


def _check_numbers(options: dict[str, tuple[int | None, int]]) -> None:
    for name, (value, least) in options.items():
        if value is not None and value < least:
            raise ValueError(f'{name} must be at least {least}, got {value}')


def _make_executor(args: argparse.Namespace, devices: tuple[str, ...]) -> Any:
    if args.executor == 'ray':
        from cuts3d_mm.pipeline.executors.ray import RayExecutor

        return RayExecutor(args.address, gpus=int(devices == ('cuda',)))
    from cuts3d_mm.pipeline.devices import default_workers
    from cuts3d_mm.pipeline.executors.local import LocalExecutor

    workers = default_workers(devices) if args.workers is None else args.workers
    if not workers and len(devices) > 1:
        raise ValueError('--workers must be at least 1 with several --devices, got 0')
    return LocalExecutor(workers, () if devices == ('cpu',) else devices)


def _report(counts: Any, args: argparse.Namespace) -> int:
    print(
        f'{counts.images} images: {counts.instances} instances, {counts.failures} failures '
        f'-> {args.out}'
    )
    if counts.failures > args.max_failures * counts.images:
        print(f'too many failures, see {args.out / "failures.jsonl"}', file=sys.stderr)
        return EXIT_FAILURES
    return 0
