"""Draw the instances of labels over their images, and a contact sheet of the first 36.

Examples:
    cuts3d view labels images pictures --limit 8
    cuts3d view labels.json images pictures --random 4 --seed 1
"""

from __future__ import annotations

import argparse
import sys
from itertools import chain, islice

from cuts3d_mm.cli import EXIT_FAILURES, at_least, image_folder, make_parser, run_command
from cuts3d_mm.files.paths import shown


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    parser.add_argument('labels')
    parser.add_argument(
        'images', type=image_folder, help='folder of the images that were labelled'
    )
    parser.add_argument('out', help='folder to write')
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument('--limit', type=at_least(1), metavar='N', help='only the first N images')
    chosen.add_argument('--random', type=int, metavar='N', help='only N images drawn at random')
    parser.add_argument('--crowd')
    parser.add_argument('--seed', help='seed of --random')
    return parser.parse_args()


def main() -> int:
    """Run the command."""
    args = parse_args()
    import numpy as np

    from cuts3d_mm.labels.coco import read_labels
    from cuts3d_mm.labels.table import random_records
    from cuts3d_mm.visualization.contact_sheets import NUM_SHOWN, draw_sheet
    from cuts3d_mm.visualization.overlays import draw_records
    from cuts3d_mm.visualization.pictures import save_picture

    if args.random is None:
        records = iter(read_labels(args.labels, args.crowd))
    else:
        rng = np.random.default_rng(args.seed)
        records = iter(random_records(args.labels, args.random, rng, args.crowd))
    labelled = (record for record in records if record.failure is None)
    first = list(islice(labelled, min(NUM_SHOWN, args.limit or NUM_SHOWN)))
    num_drawn, failures = draw_records(chain(first, labelled), args.images, args.out, args.limit)
    if failures and not num_drawn:
        name, reason = failures[0]
        raise ValueError(f'{shown(name)}: {reason}; IMAGES must be the folder that was labelled')
    sheet = args.out / 'contact_sheet.webp'  # no picture has this suffix
    save_picture(sheet, draw_sheet(args.images, first))
    print(f'{num_drawn} images -> {args.out}, the first of them on {sheet}')
    if failures:
        path = args.out / 'not_drawn.jsonl'
        print(f'{len(failures)} images cannot be drawn, see {path}', file=sys.stderr)
        return EXIT_FAILURES
    return 0


if __name__ == '__main__':
    run_command(main)
