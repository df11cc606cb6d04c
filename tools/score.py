"""Compute class-agnostic AP and AR of pseudo-labels against annotations, as pycocotools does.

Examples:
    cuts3d score labels annotations.json
    cuts3d score labels annotations.json --against labels-2d --images images --out worst
    cuts3d score labels annotations.json --gate 1.1-100
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from cuts3d_mm.cli import (
    LABELS_HELP,
    at_least,
    existing_file,
    image_folder,
    labels_path,
    local_place,
    make_parser,
    report_refused,
    run_command,
)

_STDOUT = Path('-')


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    parser.add_argument(
        'labels',
        help=f'{LABELS_HELP}, or a COCO results list, whose image ids are those of ANNOTATIONS',
    )
    parser.add_argument(
        'ground_truth',
        type=existing_file,
        metavar='ANNOTATIONS',
        help='COCO JSON of the true objects',
    )
    parser.add_argument(
        '--json',
        type=local_place,
        metavar='FILE',
        help='file to write the figures into; - prints them in place of the tables',
    )
    parser.add_argument(
        '--all',
        action='store_true',
        help='score all annotated images; an image without labels counts as missed',
    )
    parser.add_argument('--crowd')
    parser.add_argument(
        '--by-count', action='store_true', help='also score images by their number of objects'
    )
    parser.add_argument(
        '--plot',
        type=local_place,
        metavar='FILE',
        help='curves of precision and recall to write (.png)',
    )
    parser.add_argument('--against', type=labels_path, help='earlier labels to compare with')
    parser.add_argument('--images', type=image_folder, help='folder of the images, for --out')
    parser.add_argument('--limit', type=at_least(1), default=10, help='images to draw, with --out')
    parser.add_argument(
        '--out', type=local_place, help='folder for pictures of the images that got worse the most'
    )
    parser.add_argument(
        '--gate',
        type=_range,
        metavar='RANGE',
        help='fail unless the mask AP is in RANGE (LOW-HIGH, in percent), few images have no '
        'label and few masks under 1 percent of the image: a check of some labels before days of '
        'training',
    )
    return parser.parse_args()


def _range(text: str) -> tuple[float, float]:
    try:
        low, high = map(float, text.split('-'))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f'must be LOW-HIGH, as 1.1-7.5, got {text!r}') from error
    return low, high


def main() -> int:
    """Run the command."""
    args = parse_args()
    from cuts3d_mm.evaluation.label_scores import ScoreReport
    from cuts3d_mm.files.atomic import write_whole
    from cuts3d_mm.visualization.pictures import save_figure

    if args.out is not None and (args.against is None or args.images is None):
        raise ValueError('--out needs --against and --images')
    report = ScoreReport.of(args.labels, args.ground_truth, args.against, args.all, args.crowd)
    figures = json.dumps(report.scores, indent=1)
    texts = [f'{report.scope()}\n\n{report.table()}']
    if args.by_count:
        texts.append(report.table_by_count())
    if args.against is not None:
        texts.append(report.comparison())
    print(figures if args.json == _STDOUT else '\n\n'.join(texts))
    if args.plot is not None:
        save_figure(args.plot, report.plot(), dpi=120)
    if args.json not in (None, _STDOUT):
        write_whole(args.json, f'{figures}\n')
    refused = 0
    if args.out is not None:
        refused = report_refused(report.draw_worst(args.images, args.out, args.limit))
    if args.gate is not None:
        _require_gate(args, report.scores)
    return refused


def _require_gate(args: argparse.Namespace, scores: dict[str, dict[str, float]]) -> None:
    from cuts3d_mm.labels.coco import read_labels
    from cuts3d_mm.labels.gate import check_labels

    if 'segm' not in scores:
        raise ValueError(
            f'--gate needs masks in ANNOTATIONS, {args.ground_truth} holds boxes alone'
        )
    mask_ap = 100 * scores['segm']['AP']
    found = check_labels(read_labels(args.labels), mask_ap, args.gate)
    if found.faults:
        raise ValueError(
            f'labels must pass the gate before a detector is trained on more of them, they have '
            f'{" and ".join(found.faults)}: {found}; look at them with cuts3d view and cuts3d '
            'explain, and check features and depth'
        )
    print(f'passed: {found}', file=sys.stderr if args.json == _STDOUT else sys.stdout)


if __name__ == '__main__':
    run_command(main)
