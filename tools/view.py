"""Draw the instances of a label store over its images."""

from __future__ import annotations

import argparse
from pathlib import Path

from cuts3d_mm.command_line import make_parser, run_command


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    parser.add_argument('labels', type=Path, help='label store or COCO JSON')
    parser.add_argument('--images', type=Path, required=True, metavar='DIR', help='image folder')
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='folder to write')
    parser.add_argument('--limit', type=int, metavar='N', help='only the first N images')
    return parser.parse_args()


def main() -> None:
    """Run the command."""
    args = parse_args()
    from cuts3d_mm.generation.view import draw_records
    from cuts3d_mm.labelling.images import ImageFailure
    from cuts3d_mm.labels.coco import read_coco
    from cuts3d_mm.labels.store import read_store

    read = read_store if args.labels.is_dir() else read_coco
    try:
        num_drawn = draw_records(read(args.labels), args.images, args.out, args.limit)
    except ImageFailure as failure:
        raise ValueError(f'{failure}; --images must be the folder that was labelled') from failure
    print(f'{num_drawn} images -> {args.out}')


if __name__ == '__main__':
    run_command(main)
