"""Show the stages of the recipe on one image, side by side."""

from __future__ import annotations

import argparse
from pathlib import Path

from cuts3d_mm.cli import add_config_argument, make_parser, run_command
from cuts3d_mm.configs import load_generator_config


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    add_config_argument(parser)
    parser.add_argument('image', type=Path, help='image file')
    parser.add_argument('--depth', metavar='DIR', help='folder with the depth map of the image')
    parser.add_argument('--device', default='cpu', help='of the networks, such as cuda:0')
    parser.add_argument('--out', type=Path, default=Path('explain.png'), help='figure to write')
    return parser.parse_args()


def main() -> None:
    """Run the command."""
    args = parse_args()
    if not args.image.is_file():
        raise ValueError(f'IMAGE must be an image file, found none at {args.image}')
    model = load_generator_config(args.config, args.cfg_options)
    # Imported when the paths are right: networks and figures take seconds.
    from cuts3d_mm.labellers.build import build_labeller, with_depth_folder

    model = with_depth_folder(model, args.depth)
    from cuts3d_mm.images.reading import ImageFailure, NamedImage, read_image
    from cuts3d_mm.labellers.explain import explain_image
    from cuts3d_mm.visualization.pictures import save_figure
    from cuts3d_mm.visualization.stages_figure import draw_stages

    generator = build_labeller(model).to(args.device)
    try:
        image = NamedImage(args.image.name, read_image(args.image))
        stages = explain_image(generator, image)
    except ImageFailure as failure:
        raise ValueError(f'{args.image}: {failure}') from failure
    save_figure(args.out, draw_stages(stages, args.image.name), dpi=120)
    print(f'{len(stages.instances)} instances -> {args.out}')


if __name__ == '__main__':
    run_command(main)
