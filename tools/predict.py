"""Label images by a detector, for the next round of self-training; run again to resume.

Examples:
    cuts3d predict cuts3d_tiny-cascade-mask-rcnn_r18_scenes iter_200.pth images predicted
"""

from __future__ import annotations

import argparse
from typing import Any

from cuts3d_mm.cli import (
    RESUMES,
    add_checkpoint_argument,
    add_config_argument,
    add_labelling_arguments,
    label_many,
    make_parser,
    requested_devices,
    run_command,
)
from cuts3d_mm.files.paths import require_writable


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    add_config_argument(parser, 'model.test_cfg.rcnn.max_per_img=200')
    add_checkpoint_argument(parser)
    add_labelling_arguments(parser)
    parser.add_argument(
        '--score-thr',
        type=float,
        default=0.0,
        metavar='SCORE',
        help='smallest score, in [0, 1] (default 0)',
    )
    parser.add_argument(
        '--max-per-image', type=int, default=100, metavar='N', help='most instances, best first'
    )
    parser.add_argument(
        '--confidence-source',
        choices=['map', 'score', 'none'],
        default='none',
        help='confidence of the labels: probability of each pixel, score of the instance, or '
        'none: all pixels are certain (default none)',
    )
    return parser.parse_args()


def main() -> int:
    """Run the command."""
    args = parse_args()
    # Imported after parsing, so that --help does not wait for torch.
    from cuts3d_mm.configs import load_config
    from cuts3d_mm.labellers.detector import check_options, labeller_config

    check_options(args.score_thr, args.max_per_image)
    requested_devices(args, batch_size=1)
    require_writable(args.out, 'OUT')
    config = load_config(args.config, args.cfg_options)

    def make_model() -> dict[str, Any]:
        return labeller_config(
            config,
            args.checkpoint,
            score_thr=args.score_thr,
            max_per_image=args.max_per_image,
            confidence_source=args.confidence_source,
        )

    return label_many(args, make_model, config.get('custom_imports'), batch_size=1)


if __name__ == '__main__':
    run_command(main, RESUMES)
