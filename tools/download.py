"""Download a released detector or a label set from the Hugging Face Hub.

Examples:
    cuts3d download owner/repo
    cuts3d download owner/repo@v1 --files config.json model.safetensors
    cuts3d download owner/repo-labels --repo-type dataset --out labels
"""

from __future__ import annotations

import argparse
from pathlib import Path

from cuts3d_mm.cli import local_place, make_parser, run_command


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    parser.add_argument(
        'repository',
        metavar='OWNER/NAME[@REVISION]',
        help='repository; REVISION is a branch, a tag or a commit',
    )
    parser.add_argument(
        '--files', nargs='+', default=[], metavar='FILE', help='files to download (default: all)'
    )
    parser.add_argument(
        '--repo-type', choices=['model', 'dataset'], default='model', help='kind of the repository'
    )
    parser.add_argument('--out', type=local_place, help='folder to write (default: NAME)')
    return parser.parse_args()


def main() -> None:
    """Run the command."""
    args = parse_args()
    from cuts3d_mm.hub.client import HubRepository, download_repository

    repository = HubRepository.parse(args.repository, args.repo_type)
    out = args.out or Path(repository.repo_id.split('/')[1])
    for path in download_repository(repository, out, args.files):
        print(f'{path}  {path.stat().st_size:,} bytes')


if __name__ == '__main__':
    run_command(main)
