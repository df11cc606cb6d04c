"""Draw samples as the training pipeline of a config gives them to the model."""

from __future__ import annotations

import argparse
from pathlib import Path

from cuts3d_mm.cli import make_parser, run_command


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    parser.add_argument('config', help='config of a training, or the name of a shipped one')
    parser.add_argument('--out', type=Path, default=Path('browse_out'), metavar='DIR')
    parser.add_argument('--num', type=int, default=16, help='samples (default 16)')
    parser.add_argument('--seed', type=int, default=0, help='of order and pipeline (default 0)')
    parser.add_argument(
        '--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='change config values'
    )
    return parser.parse_args()


def main() -> None:
    """Run the command."""
    args = parse_args()
    if args.num < 1:
        raise ValueError(f'--num must be at least 1, got {args.num}')
    # Imported after parsing, so that --help does not wait for torch.
    from cuts3d_mm.configs import load_config
    from cuts3d_mm.engine.browse import browse

    paths = browse(load_config(args.config, args.cfg_options), args.num, args.seed, args.out)
    print(f'{len(paths)} samples -> {args.out}')


if __name__ == '__main__':
    run_command(main)
