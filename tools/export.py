"""Write a label store as COCO JSON, or as the files of YOLO, labelme or Pascal VOC.

Examples:
    cuts3d export labels labels.json
    cuts3d export labels polygons.json --polygons
    cuts3d export labels yolo --format yolo-seg --images images
"""

from __future__ import annotations

import argparse
from pathlib import Path

from cuts3d_mm.cli import (
    existing_folder,
    label_store_path,
    make_parser,
    report_refused,
    run_command,
)
from cuts3d_mm.files.remote import find_place


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    parser.add_argument(
        'store', type=label_store_path, help='label store, the OUT of cuts3d generate'
    )
    parser.add_argument(
        'out', type=find_place, help='COCO JSON to write, or the folder of a format'
    )
    parser.add_argument(
        '--format',
        choices=['coco', 'yolo-seg', 'labelme', 'voc-png'],
        default='coco',
        help='coco: one JSON, every mask to the pixel; yolo-seg: data.yaml, labels/ with an '
        'outline a line, images/; labelme: a JSON an image, which X-AnyLabeling reads, too; '
        'voc-png: palette PNGs of classes and objects (default: coco)',
    )
    parser.add_argument(
        '--polygons',
        action='store_true',
        help='write outlines of masks into a COCO JSON, as annotation tools edit them, not '
        'run-length codes',
    )
    parser.add_argument(
        '--images',
        type=existing_folder,
        help='folder of the images: yolo-seg links to them, labelme files name their paths',
    )
    return parser.parse_args()


def main() -> int:
    """Run the command."""
    args = parse_args()
    if args.images is not None and args.format in ('coco', 'voc-png'):
        raise ValueError(
            f'--images is for yolo-seg and labelme; leave it out with {args.format}, or choose '
            'another --format'
        )
    if args.format == 'coco':
        from cuts3d_mm.labels.coco import export_store

        exported = export_store(args.store, args.out, args.polygons)
    else:
        if args.polygons:
            raise ValueError(f'--polygons is for a COCO JSON; leave it out with {args.format}')
        from cuts3d_mm.labels.formats import export_folder

        if not isinstance(args.out, Path):
            raise ValueError(f'OUT must be a folder on this machine, got {args.out}; copy it then')
        exported = export_folder(args.store, args.out, args.format, args.images)
    print(f'{exported.num_images} images -> {args.out}')
    return report_refused(exported.refused)


if __name__ == '__main__':
    run_command(main)
