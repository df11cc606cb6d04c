"""Class-agnostic AP and AR of pseudo-labels against annotations, with pycocotools."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from cuts3d_mm.command_line import make_parser, run_command


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    parser.add_argument('labels', type=Path, help='label store or COCO JSON')
    parser.add_argument('ground_truth', type=Path, help='annotated COCO JSON')
    parser.add_argument('--json', type=Path, metavar='F', help='also write the figures to F')
    return parser.parse_args()


def main() -> None:
    """Run the command."""
    args = parse_args()
    from cuts3d_mm.evaluation.score_labels import read_ground_truth, score_labels
    from cuts3d_mm.labels.coco import read_coco
    from cuts3d_mm.labels.store import read_store
    from cuts3d_mm.visualization.tables import format_scores

    read = read_store if args.labels.is_dir() else read_coco
    scores = score_labels(read(args.labels), read_ground_truth(args.ground_truth))
    print(format_scores(scores))
    if args.json is not None:
        args.json.write_text(json.dumps(scores, indent=1) + '\n')


if __name__ == '__main__':
    run_command(main)
