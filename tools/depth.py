"""Estimate a depth map for each image, for configs that read them; run again to resume.

A map is a PNG of 16 bits in which larger is farther. Its text chunks say `unit`, which is m or
relative, and `step`, the depth of one step of its values.

Examples:
    cuts3d depth images depth
    cuts3d depth images depth --network zoedepth --device cpu
"""

from __future__ import annotations

import argparse

from cuts3d_mm.cli import (
    RESUMES,
    at_least,
    generator_name,
    make_parser,
    report_counts,
    run_command,
)
from cuts3d_mm.configs import load_generator_config

NETWORKS = ('depth-anything-v2', 'zoedepth', 'midas', 'marigold')


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    parser.add_argument('images')
    parser.add_argument('out', help='folder of depth maps to write, for --depth')
    parser.add_argument(
        '--network',
        dest='config',
        type=config_of,
        default=NETWORKS[0],
        metavar='NAME',
        help=f'{", ".join(NETWORKS)}, or the generator config whose depth source is used; it is '
        'downloaded on first use (default depth-anything-v2: the small one, Apache-2.0)',
    )
    parser.add_argument(
        '--cfg-options', help='change values of the config, such as model.depth.model=FOLDER'
    )
    parser.add_argument('--import')
    parser.add_argument('--device')
    parser.add_argument(
        '--batch-size',
        type=at_least(1),
        help='images that go through the network together (default: by the memory of the GPU, 1 '
        'on the CPU)',
    )
    parser.add_argument('--max-failures')
    return parser.parse_args()


def config_of(network: str) -> str:
    """Find the config whose depth source is that network."""
    return generator_name(f'cuts3d_dino-vitb8_{network}' if network in NETWORKS else network)


def main() -> int:
    """Run the command."""
    args = parse_args()
    model = load_generator_config(args.config, args.cfg_options, args.files)
    from cuts3d_mm.images.listing import list_images
    from cuts3d_mm.labellers.networks import check_device
    from cuts3d_mm.pipeline.depth_maps import write_depth_maps

    check_device(args.device)
    images = list_images(args.images)
    counts = write_depth_maps(model.get('depth'), images, args.out, args.device, args.batch_size)
    return report_counts(counts, args)


if __name__ == '__main__':
    run_command(main, RESUMES)
