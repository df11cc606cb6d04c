"""Look through labels in a browser: mark bad images for --exclude, or name groups.

Examples:
    cuts3d browse-labels labels --images images
    cuts3d browse-labels labels --images images --groups groups
    cuts3d browse-labels labels.json --images images --out bad.txt --port 8000
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cuts3d_mm.cli import (
    existing_folder,
    image_folder,
    label_store_path,
    local_place,
    make_parser,
    run_command,
)
from cuts3d_mm.files.paths import require_writable

MAX_UPLOAD = '1kb'  # nothing is uploaded


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    parser.add_argument('labels')
    parser.add_argument(
        '--images',
        type=image_folder,
        required=True,
        help='folder of the images that were labelled',
    )
    parser.add_argument(
        '--out',
        type=local_place,
        default=Path('bad_images.txt'),
        metavar='FILE',
        help='list of the marked images, for --exclude; what it holds already stays marked',
    )
    parser.add_argument(
        '--groups',
        type=existing_folder,
        help='name groups: the OUT of cuts3d group, in whose names.json every change is kept',
    )
    parser.add_argument('--crowd')
    parser.add_argument('--port')
    return parser.parse_args()


def main() -> None:
    """Run the command."""
    args = parse_args()
    os.environ.setdefault('GRADIO_ANALYTICS_ENABLED', 'False')
    if find_spec('gradio') is None:
        raise ImportError("gradio missing: pip install 'cuts3d_mm[app]'")
    make = _naming_page if args.groups else _marking_page
    build = make(args)
    with tempfile.TemporaryDirectory(prefix='cuts3d-labels-') as folder:
        os.environ['GRADIO_TEMP_DIR'] = folder  # for the pictures of the page
        from cuts3d_mm.app.server import LOOPBACK, launch

        # The page writes a file: it is for this machine alone.
        launch(build(), LOOPBACK, args.port, max_file_size=MAX_UPLOAD)
        threading.Event().wait()  # until Ctrl-C


def _naming_page(args: argparse.Namespace) -> Callable[[], Any]:
    require_writable(args.groups, '--groups')
    label_store_path(str(args.labels))
    from cuts3d_mm.app.groups_page import GroupBrowser, build_groups_page

    return partial(build_groups_page, GroupBrowser(args.labels, args.images, args.groups))


def _marking_page(args: argparse.Namespace) -> Callable[[], Any]:
    require_writable(args.out.parent, 'the folder of --out')
    from cuts3d_mm.app.labels_page import LabelBrowser, build_labels_page

    return partial(build_labels_page, LabelBrowser(args.labels, args.images, args.out, args.crowd))


if __name__ == '__main__':
    run_command(main, 'the page is closed')
