"""Label photos and rendered scenes, train on them, write a page; nothing to download."""

from __future__ import annotations

import argparse
from pathlib import Path

from cuts3d_mm.cli import RESUMES, make_parser, run_command


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    parser.add_argument('out', type=Path, nargs='?', default=Path('demo_out'))
    parser.add_argument('--scenes', type=int, default=24, help='rendered scenes (default 24)')
    parser.add_argument('--workers', type=int, default=2, help='processes (default 2)')
    parser.add_argument(
        '--iters',
        type=int,
        default=200,
        help='training steps of a tiny detector, about 1 s each; 0: no training (default 200)',
    )
    parser.add_argument(
        '--self-training',
        type=int,
        default=0,
        metavar='SEEDS',
        help='also train with two rounds of self-training, once per seed, about 8 minutes each',
    )
    parser.add_argument(
        '--pictures', type=Path, metavar='DIR', help='also write the pictures of the README'
    )
    return parser.parse_args()


def main() -> None:
    """Run the command."""
    args = parse_args()
    from cuts3d_mm.demo.run import run_demo

    table = run_demo(
        args.out, args.scenes, args.workers, args.pictures, args.iters, args.self_training
    )
    print(f'\n{table}\n\nlook at {args.out / "index.html"}')


if __name__ == '__main__':
    run_command(main, RESUMES)
