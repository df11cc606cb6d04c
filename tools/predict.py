"""Label images by a detector, for the next round of self-training; run again to resume."""

from __future__ import annotations

import argparse

from cuts3d_mm.cli import (
    RESUMES,
    add_config_argument,
    add_labelling_arguments,
    label_many,
    make_parser,
    run_command,
)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    add_config_argument(parser)
    parser.add_argument('checkpoint', help='weights: a file, https:// or hf:// location')
    add_labelling_arguments(parser)
    parser.add_argument(
        '--score-thr', type=float, default=0.0, help='smallest score, in [0, 1] (default 0)'
    )
    parser.add_argument(
        '--max-per-image', type=int, default=100, help='most instances, best first (default 100)'
    )
    parser.add_argument(
        '--confidence-source',
        choices=['map', 'score', 'none'],
        default='none',
        help='confidence of the labels: probability of each pixel, score of the instance, or '
        'none: certain (default none)',
    )
    return parser.parse_args()


def main() -> int:
    """Run the command."""
    args = parse_args()
    # Imported after parsing, so that --help does not wait for torch.
    from cuts3d_mm.configs import load_config
    from cuts3d_mm.labellers.detector_config import labeller_config

    config = load_config(args.config, args.cfg_options)
    model = labeller_config(
        config,
        args.checkpoint,
        score_thr=args.score_thr,
        max_per_image=args.max_per_image,
        confidence_source=args.confidence_source,
    )
    return label_many(args, model)


if __name__ == '__main__':
    run_command(main, RESUMES)
