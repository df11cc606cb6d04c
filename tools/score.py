"""Compute class-agnostic AP and AR of pseudo-labels against annotations, with pycocotools.

Examples:
    cuts3d score labels annotations.json
    cuts3d score labels annotations.json --against labels-2d --images images --out worst
"""

from __future__ import annotations

import argparse
import json

from cuts3d_mm.cli import (
    LABELS_HELP,
    add_crowd_argument,
    at_least,
    existing_file,
    image_folder,
    labels_path,
    local_place,
    make_parser,
    report_refused,
    run_command,
)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    parser.add_argument('labels', type=labels_path, metavar='LABELS', help=LABELS_HELP)
    parser.add_argument(
        'ground_truth',
        type=existing_file,
        metavar='ANNOTATIONS',
        help='COCO JSON of the true objects',
    )
    parser.add_argument(
        '--json', type=local_place, metavar='FILE', help='file to write the figures into'
    )
    parser.add_argument(
        '--all',
        action='store_true',
        help='score all annotated images; an image without labels counts as missed',
    )
    add_crowd_argument(parser)
    parser.add_argument(
        '--by-count', action='store_true', help='also score images by their number of objects'
    )
    parser.add_argument(
        '--plot',
        type=local_place,
        metavar='FILE',
        help='curves of precision and recall to write (.png)',
    )
    parser.add_argument(
        '--against', type=labels_path, metavar='LABELS', help='earlier labels to compare with'
    )
    parser.add_argument(
        '--images',
        type=image_folder,
        metavar='DIR',
        help='folder of the images, for --out',
    )
    parser.add_argument(
        '--limit', type=at_least(1), default=10, metavar='N', help='images to draw, with --out'
    )
    parser.add_argument(
        '--out',
        type=local_place,
        metavar='DIR',
        help='folder for pictures of the images that got worse the most',
    )
    return parser.parse_args()


def main() -> int:
    """Run the command."""
    args = parse_args()
    from cuts3d_mm.evaluation.label_scores import ScoreReport
    from cuts3d_mm.files.atomic import write_whole
    from cuts3d_mm.visualization.pictures import save_figure

    if args.out is not None and (args.against is None or args.images is None):
        raise ValueError('--out needs --against and --images')
    report = ScoreReport.of(args.labels, args.ground_truth, args.against, args.all, args.crowd)
    print(f'{report.scope()}\n\n{report.table()}')
    if args.by_count:
        print(f'\n{report.table_by_count()}')
    if args.against is not None:
        print(f'\n{report.comparison()}')
    if args.plot is not None:
        save_figure(args.plot, report.plot(), dpi=120)
    if args.json is not None:
        write_whole(args.json, json.dumps(report.scores, indent=1) + '\n')
    if args.out is not None:
        return report_refused(report.draw_worst(args.images, args.out, args.limit))
    return 0


if __name__ == '__main__':
    run_command(main)
