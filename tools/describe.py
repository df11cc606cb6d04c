"""Count instances per image and their areas, of one or several sets of labels.

Examples:
    cuts3d describe labels
    cuts3d describe labels labels.json
    cuts3d describe labels --json
"""

from __future__ import annotations

import argparse
import json

from cuts3d_mm.cli import make_parser, run_command


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    parser.add_argument('labels', nargs='+')
    parser.add_argument('--crowd')
    parser.add_argument(
        '--json', action='store_true', help='print a JSON list with an object of numbers a set'
    )
    return parser.parse_args()


def main() -> None:
    """Run the command."""
    args = parse_args()
    from cuts3d_mm.labels.coco import read_labels
    from cuts3d_mm.labels.merging import LabelStatistics
    from cuts3d_mm.visualization.charts import format_table

    found = [LabelStatistics.of(read_labels(path, args.crowd)) for path in args.labels]
    if args.json:
        figures = zip(args.labels, found, strict=True)
        print(
            json.dumps([{'labels': str(path), **one.figures()} for path, one in figures], indent=1)
        )
        return
    columns = [one.rows() for one in found]
    header = ['', *(path.name for path in args.labels)]
    rows = [[line[0][0], *(figure for _, figure in line)] for line in zip(*columns, strict=True)]
    print(format_table(header, rows))


if __name__ == '__main__':
    run_command(main)
