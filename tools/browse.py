"""Draw samples as the training pipeline of a config gives them to the model.

Examples:
    cuts3d browse demo_out/learned_0/training.py --limit 4
"""

from __future__ import annotations

import argparse
from pathlib import Path

from cuts3d_mm.cli import add_config_arguments, at_least, local_place, make_parser, run_command


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    add_config_arguments(parser, 'train_dataloader.batch_size=4')
    parser.add_argument('--limit', type=at_least(1), default=16, help='samples to draw')
    parser.add_argument('--seed', help='seed of the order and of the pipeline')
    parser.add_argument(
        '--out', type=local_place, default=Path('browse_out'), help='folder to write'
    )
    return parser.parse_args()


def main() -> None:
    """Run the command."""
    args = parse_args()
    # Imported after parsing, so that --help does not wait for torch.
    from cuts3d_mm.configs import load_config
    from cuts3d_mm.engine.browse import browse

    paths = browse(load_config(args.config, args.cfg_options), args.limit, args.seed, args.out)
    print(f'{len(paths)} samples -> {args.out}')


if __name__ == '__main__':
    run_command(main)
