"""Make the class-agnostic COCO JSON of an evaluation set, or shares of COCO to fine-tune on."""

from __future__ import annotations

import argparse
from pathlib import Path

from cuts3d_mm.cli import make_parser, run_command
from cuts3d_mm.evaluation.preparation.catalog import EVALUATION_SETS
from cuts3d_mm.evaluation.preparation.coco_semi import LAYOUT

_SHARES = 'coco-semi'


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    layouts = {name: one.layout for name, one in EVALUATION_SETS.items()} | {_SHARES: LAYOUT}
    parser.epilog = 'SRC must hold:\n' + '\n'.join(
        f'  {name:18s}{layout}' for name, layout in layouts.items()
    )
    parser.add_argument('name', choices=list(layouts), metavar='NAME', help='see below')
    parser.add_argument('src', type=Path, help='folder of the official files, with the images')
    parser.add_argument('dst', type=Path, help='folder of NAME.json')
    return parser.parse_args()


def main() -> None:
    """Run the command."""
    args = parse_args()
    if args.name == _SHARES:
        prepare_shares(args)
    else:
        prepare_set(args)


def prepare_shares(args: argparse.Namespace) -> None:
    """Write shares of COCO's training labels."""
    from cuts3d_mm.evaluation.preparation.coco_semi import write_shares

    for path, (images, objects) in write_shares(args.src, args.dst).items():
        print(f'{images} images, {objects} objects -> {path}')


def prepare_set(args: argparse.Namespace) -> None:
    """Convert an evaluation set."""
    from cuts3d_mm.evaluation.preparation.writer import prepare

    chosen = EVALUATION_SETS[args.name]
    source = chosen.open_source(args.src)
    args.dst.mkdir(parents=True, exist_ok=True)
    out = args.dst / f'{args.name}.json'
    info = {
        'description': f'{chosen.title}, class-agnostic, by cuts3d_mm',
        'image_folder': str(source.image_folder.resolve()),
    }
    done = prepare(source, out, info)
    expected = '' if chosen.expected_images is None else f' ({chosen.expected_images} expected)'
    print(
        f'{done.images} images{expected}, {done.objects} objects, {done.crowds} regions to '
        f'ignore, {done.clipped} boxes clipped to their image -> {out}'
    )
    for reason, count in done.problems.most_common():
        print(f'left out: {count} x {reason}')
    if done.problems:
        print(f'each one: {out.with_suffix(".problems.jsonl")}')


if __name__ == '__main__':
    run_command(main)
