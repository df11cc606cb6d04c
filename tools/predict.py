"""Label images by a detector, for the next round of self-training; run again to resume.

Examples:
    cuts3d predict cuts3d_tiny-cascade-mask-rcnn_r18_scenes iter_200.pth images predicted
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import TYPE_CHECKING

from cuts3d_mm.cli import (
    RESUMES,
    add_config_arguments,
    add_labelling_arguments,
    generator_name,
    label_many,
    make_parser,
    run_command,
    share,
)

if TYPE_CHECKING:
    from cuts3d_mm.pipeline.work import ConfiguredLabeller


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    add_config_arguments(parser, 'model.test_cfg.rcnn.max_per_img=200')
    parser.add_argument('checkpoint')
    add_labelling_arguments(parser)
    parser.add_argument(
        '--score-thr',
        type=share,
        default=0.0,
        metavar='SCORE',
        help='smallest score, in [0, 1] (default 0)',
    )
    parser.add_argument(
        '--max-per-image', type=int, default=100, help='most instances, best first'
    )
    parser.add_argument(
        '--confidence-source',
        choices=['map', 'score', 'none'],
        default='none',
        help='confidence of the labels: probability of each pixel, score of the instance, or '
        'none: all pixels are certain (default none)',
    )
    parser.add_argument(
        '--embed',
        type=generator_name,
        help='keep a vector for each instance, by features of this generator, for cuts3d group',
    )
    return parser.parse_args()


def main() -> int:
    """Run the command."""
    args = parse_args()
    return label_many(args, partial(read_detector, args), batch_size=1)


def read_detector(args: argparse.Namespace) -> ConfiguredLabeller:
    """Read the config of a detector and the digest of its weights."""
    from cuts3d_mm.configs import load_config, load_generator_config, look_into

    look_into(args.config, args.cfg_options)
    from cuts3d_mm.labellers.detector import labeller_config
    from cuts3d_mm.pipeline.work import ConfiguredLabeller

    config = load_config(args.config, args.cfg_options)
    model = labeller_config(
        config,
        args.checkpoint,
        score_thr=args.score_thr,
        max_per_image=args.max_per_image,
        confidence_source=args.confidence_source,
    )
    if args.embed:
        source = load_generator_config(args.embed, [])
        kept = {key: source[key] for key in ('features', 'input_hw') if key in source}
        model = {'type': 'cuts3d_mm.EmbeddingLabeller', 'labeller': model, **kept}
    return ConfiguredLabeller(model, config.get('custom_imports'))


if __name__ == '__main__':
    run_command(main, RESUMES)
