r"""Outline every object in photos, folders, URLs, videos or a webcam by a trained detector.

Examples:
    cuts3d detect images clip.mp4 --model owner/repo
    cuts3d detect clip.mp4 --model owner/repo --track
    cuts3d detect images --model owner/repo --tiles 640 --overlap 0.2 --save coco
    cuts3d detect images --model cuts3d_tiny-cascade-mask-rcnn_r18_scenes \
      --weights iter_200.pth --save masks --out detected
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cuts3d_mm.cli import (
    add_image_folder_argument,
    at_least,
    image_source,
    local_place,
    make_parser,
    program,
    report_counts,
    run_command,
    share,
)
from cuts3d_mm.configs import SCORE_THR, look_into
from cuts3d_mm.files.paths import require_writable
from cuts3d_mm.mmengine_imports import leave_out_unused
from cuts3d_mm.processes import advise

if TYPE_CHECKING:
    from cuts3d_mm.images.streams import Source
    from cuts3d_mm.labellers.detector import DetectorLabeller
    from cuts3d_mm.labels.store import Counts


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    parser.add_argument(
        'inputs',
        type=image_source,
        nargs='+',
        metavar='INPUT',
        help='image, folder, text file of paths, COCO JSON, http(s):// image, video, or webcam:0',
    )
    add_image_folder_argument(parser, 'INPUT')
    parser.add_argument('--model')
    parser.add_argument('--weights')
    parser.add_argument(
        '--score-thr',
        type=share,
        default=SCORE_THR,
        metavar='SCORE',
        help='smallest score, in [0, 1]',
    )
    parser.add_argument(
        '--save',
        nargs='+',
        choices=['pictures', 'masks', 'coco', 'results'],
        default=['pictures', 'coco'],
        help='drawn images and videos; uint16 PNGs, a number per instance; COCO JSON; COCO '
        'results list, with the image ids of INPUT if that is a COCO JSON '
        '(default: pictures coco)',
    )
    parser.add_argument(
        '--track',
        action='store_true',
        help='follow objects through videos: each has a number, which is drawn and is track_id '
        'in the COCO JSON; every INPUT must be a video or a webcam',
    )
    parser.add_argument('--out', type=local_place, default=Path('outputs'), help='folder to write')
    parser.add_argument(
        '--batch-size', type=at_least(1), default=1, help='images that the network sees at once'
    )
    parser.add_argument(
        '--tiles',
        type=at_least(1),
        help='side of the tiles that large images are cut into, pixels (default: whole images)',
    )
    parser.add_argument(
        '--overlap',
        type=share,
        default=0.2,
        metavar='SHARE',
        help='overlap of two tiles, as a share of their side; objects should fit into it',
    )
    parser.add_argument('--device')
    parser.add_argument('--max-failures')
    return parser.parse_args()


def main() -> int:
    """Run the command."""
    args = parse_args()
    if args.tiles is not None:
        from cuts3d_mm.inference.tiles import check_tiles

        check_tiles(args.tiles, args.overlap)
        if args.track:
            raise ValueError('--track follows objects in whole frames; leave out --tiles')
    # What takes seconds to import comes after all that is quick to check.
    require_writable(args.out, '--out')
    is_elsewhere = _is_elsewhere(args.model, args.weights)
    if not is_elsewhere:
        _check_model(args.model, args.weights)
    from cuts3d_mm.images.listing import BY_OPTION
    from cuts3d_mm.images.streams import VideoSource, open_sources
    from cuts3d_mm.labellers.networks import check_device

    check_device(args.device)
    sources = open_sources(args.inputs, args.image_folder, remedy=BY_OPTION)
    if args.track and not all(isinstance(source, VideoSource) for source in sources):
        raise ValueError('--track must have videos or webcams, got images; leave them or it out')
    image_ids = _image_ids(args.inputs) if 'results' in args.save else None
    if is_elsewhere:
        _check_model(args.model, args.weights)
    from cuts3d_mm.labellers.detector import DetectorLabeller

    detector = DetectorLabeller.load(
        args.model, args.weights, args.device, args.score_thr, fill_boxes=True
    )
    advise(f'what was found until now is in {args.out}')
    return _report(_detect(detector, sources, args, image_ids), detector, args)


def _is_elsewhere(model: str | None, weights: str | None) -> bool:
    """Tell whether the detector must be fetched: after all mistakes that can be found here."""
    from cuts3d_mm.hub.client import HUB_PREFIX, is_repository_name

    if weights is not None:
        return '://' in weights
    name = str(model).removeprefix(HUB_PREFIX)
    return is_repository_name(name) and not Path(str(model)).exists()


def _check_model(model: str | None, weights: str | None) -> None:
    """Find or fetch the detector that the command line names."""
    from cuts3d_mm.hub.client import find_release, locate_file

    if model is None and weights is None:
        raise ValueError('--model or --weights must name a detector, got neither')
    if model is None or (weights is None and find_release(model) is not None):
        leave_out_unused({})  # what a release may name needs no more than our own classes
    else:
        try:
            look_into(model, [])
        except ValueError as error:
            raise ValueError(
                '--model must be owner/repo on the Hugging Face Hub, a folder that cuts3d '
                f'download made, or a config; {error}'
            ) from error
        if weights is None:
            raise ValueError(
                f'--model {model} is a config without weights; pass --weights, a file or an '
                'hf:// location, or name a release as owner/repo'
            )
    if weights is not None:
        locate_file(weights)


def _image_ids(inputs: Sequence[str]) -> dict[str, int] | None:
    """Read the ids of the images where INPUT is a COCO JSON."""
    from cuts3d_mm.labels.coco import read_image_ids

    tables = [Path(one) for one in inputs if one.lower().endswith('.json')]
    if tables and len(inputs) > 1:
        raise ValueError('--save results must have one COCO JSON as its only INPUT, or none')
    return read_image_ids(tables[0]) if tables else None


def _detect(
    detector: DetectorLabeller,
    sources: Sequence[Source],
    args: argparse.Namespace,
    image_ids: dict[str, int] | None,
) -> Counts:
    from cuts3d_mm.algorithm.tracking import MaskTracker
    from cuts3d_mm.inference.tiles import TiledDetector
    from cuts3d_mm.inference.writing import detect_all, write_detections
    from cuts3d_mm.labels.store import Counts
    from cuts3d_mm.pipeline.progress import ProgressLine, Report

    tiled = None
    if args.tiles is not None:
        tiled = TiledDetector(detector, args.tiles, args.overlap)
    with (
        write_detections(args.out, args.save, image_ids) as writer,
        ProgressLine(f'detecting in {args.inputs[0]}') as progress,
    ):
        progress.start(sum(source.num_frames for source in sources), Counts())
        return detect_all(
            detector if tiled is None else tiled,
            sources,
            writer,
            args.batch_size,
            lambda done: progress.add(Report(done)),
            MaskTracker() if args.track else None,
        )


def _report(counts: Counts, detector: DetectorLabeller, args: argparse.Namespace) -> int:
    code = report_counts(counts, args, f' {counts.instances} instances,', args.out / 'labels')
    if counts.images > counts.failures and not counts.instances:
        best = detector.best_score
        reason = (
            f'the best score is {best:.2f}, below --score-thr {args.score_thr:g}; '
            f'--score-thr {math.floor(50 * best) / 100:g} shows what has half of it or more'
            if best
            else 'the detector finds nothing in them at any score'
        )
        print(f'{program()}: no instance in {counts.images} images: {reason}', file=sys.stderr)
    return code


if __name__ == '__main__':
    run_command(main)
