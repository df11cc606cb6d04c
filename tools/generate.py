"""Cut instance masks out of unlabelled images into a label store; run again to resume.

Examples:
    cuts3d generate cuts3d_color-texture_file-depth images labels --depth depth
    cuts3d generate maskcut_color-texture images labels-2d --limit 8
"""

from __future__ import annotations

import argparse

from cuts3d_mm.cli import (
    RESUMES,
    add_generator_arguments,
    add_labelling_arguments,
    label_many,
    make_parser,
    run_command,
)
from cuts3d_mm.configs import read_generator_config

PRECISIONS = ('auto', 'fp32', 'bf16')


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    add_generator_arguments(parser)
    add_labelling_arguments(parser)
    parser.add_argument(
        '--depth',
        metavar='DIR',
        help='folder of depth maps, by relative path; or a pattern, such as DIR/{}_depth.npy',
    )
    parser.add_argument(
        '--batch-size',
        type=int,
        help='images that go through the networks together (default: by the memory of the GPU, 1 '
        'on the CPU)',
    )
    parser.add_argument(
        '--precision',
        choices=PRECISIONS,
        default='auto',
        help='precision of the networks (default auto, as all commands that cut: features in '
        'bfloat16 on a GPU, in float32 on the CPU; depth always in float32; fp32: all of them)',
    )
    parser.add_argument(
        '--cut-on',
        choices=('auto', 'cpu', 'device'),
        default='auto',
        help='where masks are cut and refined: on the cpu by the workers, or on the device of the '
        'networks, where only minimum cuts are left to the CPU (default auto: as the run in OUT, '
        'in a new run the cpu)',
    )
    parser.add_argument(
        '--embed',
        action='store_true',
        help='keep a vector for each instance, for cuts3d group',
    )
    return parser.parse_args()


def main() -> int:
    """Run the command."""
    args = parse_args()
    config = read_generator_config(args.config, args.cfg_options, args.files)
    # Imported when the config is found, as it takes a moment.
    from cuts3d_mm.labellers.registry import with_depth_folder

    model = with_depth_folder(config.to_dict()['model'], args.depth)
    if args.embed:
        model['embed'] = True
    from cuts3d_mm.pipeline.work import ConfiguredLabeller

    labeller = ConfiguredLabeller(model, config.get('custom_imports'))
    look = f'cuts3d explain {args.config} IMAGE shows why cuts are rejected'
    return label_many(args, labeller, args.batch_size, args.precision, args.cut_on, look)


if __name__ == '__main__':
    run_command(main, RESUMES)
