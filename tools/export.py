"""Write a label store as one COCO JSON that any COCO tool reads.

Examples:
    cuts3d export labels labels.json
    cuts3d export labels polygons.json --polygons
"""

from __future__ import annotations

import argparse

from cuts3d_mm.cli import label_store_path, make_parser, place, report_refused, run_command


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    parser.add_argument(
        'store',
        type=label_store_path,
        metavar='STORE',
        help='label store, the OUT of cuts3d generate',
    )
    parser.add_argument('json', type=place, metavar='OUT', help='COCO JSON to write')
    parser.add_argument(
        '--polygons',
        action='store_true',
        help='write outlines of masks, as annotation tools edit them, not run-length codes',
    )
    return parser.parse_args()


def main() -> int:
    """Run the command."""
    args = parse_args()
    from cuts3d_mm.labels.coco import export_store

    exported = export_store(args.store, args.json, args.polygons)
    print(f'{exported.num_images} images -> {args.json}')
    return report_refused(exported.refused)


if __name__ == '__main__':
    run_command(main)
