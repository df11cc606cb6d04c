"""Cut instance masks out of unlabelled images into a label store; run again to resume."""

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
from cuts3d_mm.configs import load_generator_config


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    add_config_argument(parser)
    add_labelling_arguments(parser)
    parser.add_argument('--depth', metavar='DIR', help='folder of depth maps, by relative path')
    parser.add_argument('--batch-size', type=int, default=1, help='images per network pass')
    return parser.parse_args()


def main() -> int:
    """Run the command."""
    args = parse_args()
    model = load_generator_config(args.config, args.cfg_options)
    # Imported when the config is found: torch takes seconds.
    from cuts3d_mm.labellers.build import with_depth_folder

    return label_many(args, with_depth_folder(model, args.depth), args.batch_size)


if __name__ == '__main__':
    run_command(main, RESUMES)
