"""Merge a detector's labels with those that it was trained on, by CutLER's rule."""

from __future__ import annotations

import argparse
from pathlib import Path

from cuts3d_mm.cli import make_parser, run_command


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    parser.add_argument('new', type=Path, help='label store written by cuts3d predict')
    parser.add_argument('old', type=Path, help='label store that the detector was trained on')
    parser.add_argument('out', type=Path, help='folder of the merged label store')
    parser.add_argument(
        '--score-thr',
        type=float,
        default=0.7,
        help='smallest score of a prediction, in [0, 1] (default 0.7; CutLER: 0.7, then 0.65)',
    )
    parser.add_argument(
        '--iou-thr',
        type=float,
        default=0.5,
        help='mask IoU with a kept prediction at which an old label is dropped (default 0.5)',
    )
    return parser.parse_args()


def main() -> None:
    """Run the command."""
    args = parse_args()
    from cuts3d_mm.labels.merging import MergeRule, merge_stores

    counts = merge_stores(args.new, args.old, args.out, MergeRule(args.score_thr, args.iou_thr))
    print(
        f'{counts.images} images: {counts.instances} instances, {counts.failures} failures '
        f'-> {args.out}'
    )


if __name__ == '__main__':
    run_command(main)
