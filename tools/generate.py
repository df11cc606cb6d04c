"""Cut instance masks out of unlabelled images into a label store; run again to resume."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from cuts3d_mm.command_line import (
    EXIT_FAILURES,
    EXIT_INTERRUPTED,
    add_config_argument,
    build_generator,
    load_generator_config,
    make_parser,
    run_command,
)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    add_config_argument(parser)
    parser.add_argument(
        'images', type=Path, help='folder (recursive), list of paths, or COCO JSON'
    )
    parser.add_argument('out', type=Path, help='folder of the label store')
    parser.add_argument('--depth', metavar='DIR', help='folder of depth maps, by relative path')
    parser.add_argument(
        '--workers', type=int, default=1, help='processes, of one thread each; 0: this process'
    )
    parser.add_argument('--batch-size', type=int, default=1, help='images per network pass')
    parser.add_argument('--device', default='cpu', help='of the networks, such as cuda:0')
    parser.add_argument('--shard', default='0/1', metavar='I/N', help='part I (from 0) of N')
    parser.add_argument('--limit', type=int, metavar='N', help='only the first N images by name')
    parser.add_argument(
        '--max-failures', type=float, default=0.01, help='share of images; more: exit code 3'
    )
    return parser.parse_args()


def main() -> int:
    """Run the command."""
    args = parse_args()
    # Imported after parsing, so that --help does not wait for torch.
    from cuts3d_mm.labelling.executor import Split, label_images
    from cuts3d_mm.labelling.images import list_images
    from cuts3d_mm.labelling.progress import ProgressLine
    from cuts3d_mm.labelling.worker import WorkOrder

    for name, least in (('workers', 0), ('batch_size', 1)):
        if getattr(args, name) < least:
            raise ValueError(f'--{name.replace("_", "-")} must be at least {least}')
    split = Split.parse(args.shard)
    images = list_images(args.images).first(args.limit)
    model = load_generator_config(args.config, args.cfg_options, args.depth)
    build_generator(model)  # finds what is wrong with the config before anything is written
    order = WorkOrder(model, images.root, args.out, args.batch_size, args.device)
    try:
        with ProgressLine() as progress:
            counts = label_images(order, images, args.workers, split, progress)
    except KeyboardInterrupt:
        print('interrupted; run the same command again to resume', file=sys.stderr)
        return EXIT_INTERRUPTED
    print(
        f'{counts.images} images: {counts.instances} instances, {counts.failures} failures '
        f'-> {args.out}'
    )
    if counts.failures > args.max_failures * counts.images:
        print(f'too many failures, see {args.out / "failures.jsonl"}', file=sys.stderr)
        return EXIT_FAILURES
    return 0


if __name__ == '__main__':
    run_command(main)
