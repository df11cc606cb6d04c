"""Merge a detector's labels with those that it was trained on.

Examples:
    cuts3d merge-labels predicted labels merged --score-thr 0.65
"""

from __future__ import annotations

import argparse

from cuts3d_mm.cli import label_store_path, make_parser, run_command


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    parser.add_argument(
        'new', type=label_store_path, help='label store that cuts3d predict has written'
    )
    parser.add_argument(
        'old', type=label_store_path, help='label store that the detector was trained on'
    )
    parser.add_argument('out', help='label store to write, a folder')
    parser.add_argument(
        '--score-thr',
        type=float,
        default=0.7,
        metavar='SCORE',
        help='smallest score of a prediction, in [0, 1] (default 0.7; CutLER: 0.7, then 0.65)',
    )
    parser.add_argument(
        '--rule',
        choices=('cutler', 'old-labels-win'),
        default='cutler',
        help='who wins where masks overlap: predictions, or old labels and the better prediction '
        '(default cutler)',
    )
    parser.add_argument(
        '--max-overlap',
        '--iou-thr',
        type=float,
        default=0.5,
        metavar='SHARE',
        help='overlap, in [0, 1], at which one of two masks goes: IoU for cutler, else the share '
        'of the smaller mask (default 0.5)',
    )
    parser.add_argument('--exclude')
    return parser.parse_args()


def main() -> None:
    """Run the command."""
    args = parse_args()
    from cuts3d_mm.images.listing import read_exclusions, require_known
    from cuts3d_mm.labels.merging import MergeRule, merge_stores
    from cuts3d_mm.labels.store import read_names

    rule = MergeRule(args.score_thr, args.max_overlap, args.rule)
    excluded = read_exclusions(args.exclude) if args.exclude else frozenset()
    if excluded:
        require_known(excluded, {*read_names(args.new), *read_names(args.old)})
    counts, kept = merge_stores(args.new, args.old, args.out, rule, excluded)
    print(
        f'{counts.images} images: {counts.instances} instances, {counts.failures} failures '
        f'-> {args.out}'
    )
    print(kept.describe())


if __name__ == '__main__':
    run_command(main)
