"""Label photos and rendered scenes, train on them, write a page.

Nothing must be downloaded. Where the Hub answers within 5 s, or its cache has them, the photos are
cut with DINO and a depth network, too (190 MB).

Examples:
    cuts3d demo
    cuts3d demo demo_out --scenes 8 --seeds 0
"""

from __future__ import annotations

import argparse
from pathlib import Path

from cuts3d_mm.cli import RESUMES, at_least, local_place, make_parser, run_command


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    parser.add_argument(
        'out',
        nargs='?',
        default=Path('demo_out'),
        help='folder to write; a folder that is there already is continued',
    )
    parser.add_argument('--scenes', type=at_least(1), default=24, help='rendered scenes')
    parser.add_argument('--workers', type=at_least(0), default=2, help='processes')
    parser.add_argument('--rounds', type=at_least(0), default=1, help='rounds of self-training')
    parser.add_argument(
        '--seeds',
        type=at_least(0),
        default=1,
        help='trainings of a tiny detector, about 6 minutes each; 0 trains no detector',
    )
    parser.add_argument('--pictures', type=local_place, help='folder for the pictures of the docs')
    return parser.parse_args()


def main() -> None:
    """Run the command."""
    args = parse_args()
    from cuts3d_mm.demo.demo import run_demo

    table = run_demo(args.out, args.scenes, args.workers, args.pictures, args.rounds, args.seeds)
    print(f'\n{table}\n\nlook at {args.out / "index.html"}')


if __name__ == '__main__':
    run_command(main, RESUMES)
