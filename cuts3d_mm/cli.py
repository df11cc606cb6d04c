"""What commands share: how they run, errors in one line, exit codes, labelling many images."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from cuts3d_mm.arguments import IMAGES_HELP, add_max_failures_argument, images_path, place, program
from cuts3d_mm.configs import shipped_root
from cuts3d_mm.error_report import ErrorsInOneLine
from cuts3d_mm.foreign_messages import silence
from cuts3d_mm.interruption import advise, guard
from cuts3d_mm.paths import require_writable

RESUMES = 'run the same command again to resume'
EXIT_FAILURES = 3  # done, with more failures than allowed


def list_tools() -> dict[str, Path]:
    """Commands by name."""
    tools = (shipped_root() / 'tools').glob('*.py')
    return {path.stem.replace('_', '-'): path for path in sorted(tools)}


def run_command(main: Callable[[], int | None], if_interrupted: str = '') -> NoReturn:
    """Run a command; an error is one line, Ctrl-C and SIGTERM end it within seconds.

    Args:
        main: returns the exit code; None is 0.
        if_interrupted: what an interrupted command says, such as how to resume.
    """
    with guard(program()), ErrorsInOneLine(program()):
        silence()
        advise(if_interrupted)
        sys.exit(main() or 0)


def add_labelling_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what a command that labels many images needs."""
    parser.add_argument('images', type=images_path, metavar='IMAGES', help=IMAGES_HELP)
    parser.add_argument(
        'out',
        type=place,
        metavar='OUT',
        help='label store to write, a folder or s3://BUCKET/PREFIX',
    )
    parser.add_argument(
        '--workers', type=int, default=1, help='processes, of one thread each; 0: this process'
    )
    parser.add_argument('--device', default='cpu', help='of the networks, such as cuda:0')
    # --shard is the name of earlier releases.
    parser.add_argument(
        '--part', '--shard', default='0/1', metavar='I/N', help='do part I (from 0) of N'
    )
    parser.add_argument('--limit', type=int, metavar='N', help='only the first N images by name')
    add_max_failures_argument(parser)


def label_many(
    args: argparse.Namespace,
    make_model: Callable[[], dict[str, Any]],
    custom_imports: dict[str, Any] | None,
    batch_size: int = 1,
) -> int:
    """Run a command that labels many images, by what `add_labelling_arguments` has read.

    Args:
        args: the command line.
        make_model: makes the config of what labels an image; called when all that is quick to
            check is right, as it may read or download weights.
        custom_imports: modules that worker processes import before they build it, as in configs.
        batch_size: images that go through the networks together.

    Returns:
        The exit code.
    """
    from cuts3d_mm.images.listing import list_images
    from cuts3d_mm.labellers.build import check_labeller, fetch_weights
    from cuts3d_mm.labellers.device import check_device
    from cuts3d_mm.pipeline.executors.local import LocalExecutor
    from cuts3d_mm.pipeline.plan import Split
    from cuts3d_mm.pipeline.progress import ProgressLine
    from cuts3d_mm.pipeline.run import label_images
    from cuts3d_mm.pipeline.work_order import ConfiguredLabeller, WorkOrder

    for name, value, least in (('workers', args.workers, 0), ('batch-size', batch_size, 1)):
        if value < least:
            raise ValueError(f'--{name} must be at least {least}')
    split = Split.parse(args.part)
    check_device(args.device)
    require_writable(args.out, 'OUT')
    images = list_images(args.images).first(args.limit)
    model = make_model()
    check_labeller(model)
    fetch_weights(model)
    labeller = ConfiguredLabeller(model, custom_imports)
    order = WorkOrder(labeller, images.root, args.out, batch_size, args.device)
    with ProgressLine(f'labelling {args.images.name}') as progress:
        counts = label_images(order, images, LocalExecutor(args.workers), split, progress)
    print(
        f'{counts.images} images: {counts.instances} instances, {counts.failures} failures '
        f'-> {args.out}'
    )
    if counts.failures > args.max_failures * counts.images:
        print(f'too many failures, see {args.out / "failures.jsonl"}', file=sys.stderr)
        return EXIT_FAILURES
    return 0


def report_refused(reasons: Sequence[str]) -> int:
    """Print why images were left out, a line each; return the exit code."""
    for reason in reasons:
        print(f'{program()}: left out: {reason}', file=sys.stderr)
    return EXIT_FAILURES if reasons else 0
