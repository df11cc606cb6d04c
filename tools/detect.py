"""Outline every object in photos, folders, URLs, videos or a webcam by a trained detector."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from cuts3d_mm.cli import EXIT_FAILURES, make_parser, run_command
from cuts3d_mm.interruption import advise


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    parser.add_argument(
        'inputs',
        nargs='+',
        metavar='INPUT',
        help='photo, folder, list of paths, COCO JSON, http(s):// photo, video, or webcam:0',
    )
    parser.add_argument(
        '--model',
        help='owner/repo[@revision] on the Hugging Face Hub, a downloaded folder, or a config',
    )
    parser.add_argument('--weights', help='with a config: a file, https:// or hf:// location')
    parser.add_argument('--out-dir', type=Path, default=Path('outputs'), help='default outputs')
    parser.add_argument(
        '--score-thr', type=float, default=0.35, help='smallest score, in [0, 1] (default 0.35)'
    )
    parser.add_argument(
        '--save',
        nargs='+',
        choices=['pictures', 'masks', 'coco'],
        default=['pictures', 'coco'],
        help='drawn images and videos; uint16 PNGs, a number per instance; COCO JSON '
        '(default: pictures coco)',
    )
    parser.add_argument('--batch-size', type=int, default=1, help='images (default 1)')
    parser.add_argument('--device', help='such as cuda:0 (default: the best there is)')
    parser.add_argument(
        '--max-failures', type=float, default=0.01, help='share of images; more: exit code 3'
    )
    return parser.parse_args()


def main() -> int:
    """Run the command."""
    args = parse_args()
    if args.batch_size < 1:
        raise ValueError(f'--batch-size must be at least 1, got {args.batch_size}')
    # Imported after parsing, so that --help does not wait for torch.
    from cuts3d_mm.images.sources import open_sources
    from cuts3d_mm.inference.detect import detect_all
    from cuts3d_mm.inference.detection_writer import DetectionWriter
    from cuts3d_mm.inference.inferencer import CutS3DInferencer
    from cuts3d_mm.labels.shard import Counts
    from cuts3d_mm.pipeline.progress import ProgressLine

    sources = open_sources(args.inputs)
    inferencer = CutS3DInferencer(args.model, args.weights, args.device, show_progress=False)
    advise(f'what was found until now is in {args.out_dir}')
    with (
        DetectionWriter(args.out_dir, args.save, args.score_thr) as writer,
        ProgressLine('detecting') as progress,
    ):
        progress.start(sum(source.num_frames for source in sources), Counts())
        counts = detect_all(inferencer, sources, writer, args.batch_size, progress.add)
    print(
        f'{counts.images} images: {counts.instances} instances, {counts.failures} failures '
        f'-> {args.out_dir}'
    )
    if counts.failures > args.max_failures * counts.images:
        failures = args.out_dir / 'labels' / 'failures.jsonl'
        print(f'too many failures, see {failures}', file=sys.stderr)
        return EXIT_FAILURES
    return 0


if __name__ == '__main__':
    run_command(main)
