"""Write a label store as one COCO JSON that any COCO tool reads."""

from __future__ import annotations

import argparse
from pathlib import Path

from cuts3d_mm.command_line import make_parser, run_command


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    parser.add_argument('store', type=Path, help='label store, the OUT of cuts3d generate')
    parser.add_argument('json', type=Path, help='file to write')
    return parser.parse_args()


def main() -> None:
    """Run the command."""
    args = parse_args()
    from cuts3d_mm.labels.coco import write_coco
    from cuts3d_mm.labels.store import read_store, shard_paths

    shard_paths(args.store)  # an error names the store before anything is written
    num_images = write_coco(args.json, lambda: read_store(args.store))
    print(f'{num_images} images -> {args.json}')


if __name__ == '__main__':
    run_command(main)
