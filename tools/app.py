"""Open the method in a browser: cut pseudo-masks, turn the point cloud, detect.

Examples:
    cuts3d app
    cuts3d app --config maskcut_color-texture --port 8000
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cuts3d_mm.cli import MODEL_HELP, generator_name, make_parser, run_command
from cuts3d_mm.configs import load_generator_config

MAX_UPLOAD = '64mb'
EMBEDDED = 'cuts3d_color-texture_file-depth.py'


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    parser.add_argument(
        '--config',
        type=generator_name,
        default=EMBEDDED,
        help='generator of the pseudo-masks; the default downloads nothing and takes a depth map '
        'with the image (default %(default)s)',
    )
    parser.add_argument('--model', help=f'a detector as well: {MODEL_HELP}')
    parser.add_argument('--weights')
    parser.add_argument('--device')
    parser.add_argument(
        '--host', default='127.0.0.1', help='address to listen at; 0.0.0.0 lets other machines in'
    )
    parser.add_argument('--port')
    return parser.parse_args()


def main() -> None:
    """Run the command."""
    args = parse_args()
    os.environ.setdefault('GRADIO_ANALYTICS_ENABLED', 'False')
    absent = [name for name in ('gradio', 'plotly') if find_spec(name) is None]
    if absent:
        raise ImportError(f"{' and '.join(absent)} missing: pip install 'cuts3d_mm[app]'")
    from cuts3d_mm.hub.client import find_release, locate_file
    from cuts3d_mm.labellers.networks import check_device
    from cuts3d_mm.labellers.registry import check_labeller, fetch_weights

    model = load_generator_config(args.config, [])
    check_device(args.device)
    check_labeller(model)
    fetch_weights(model)
    if args.weights is not None:
        locate_file(args.weights)
    elif args.model is not None:
        find_release(args.model)
    _serve(model, args)


def _serve(model: dict[str, Any], args: argparse.Namespace) -> None:
    from cuts3d_mm.app.cutting_page import PhotoCutter, build_page, write_examples
    from cuts3d_mm.app.server import launch
    from cuts3d_mm.labellers.detector import DetectorLabeller
    from cuts3d_mm.labellers.networks import choose_device

    with tempfile.TemporaryDirectory(prefix='cuts3d-app-') as folder:
        os.environ['GRADIO_TEMP_DIR'] = folder  # folder for the files of visitors
        device = choose_device(args.device)
        cutter = PhotoCutter(model, device)
        detector = None
        if args.model or args.weights:
            detector = DetectorLabeller.load(args.model, args.weights, device, fill_boxes=True)
        page = build_page(cutter, detector, write_examples(Path(folder)))
        launch(page, args.host, args.port, allowed_paths=[folder], max_file_size=MAX_UPLOAD)
        threading.Event().wait()  # until Ctrl-C


if __name__ == '__main__':
    run_command(main, 'the page is closed')
