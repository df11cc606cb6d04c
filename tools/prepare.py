"""Make the class-agnostic COCO JSON of an evaluation set, or shares of COCO to fine-tune on.

Examples:
    cuts3d prepare voc data/official/voc data/evaluation
    cuts3d prepare coco-semi data/coco data/coco/annotations
"""

from __future__ import annotations

import argparse

from cuts3d_mm.cli import existing_folder, make_parser, run_command
from cuts3d_mm.evaluation.coco_semi import LAYOUT
from cuts3d_mm.evaluation.datasets import EVALUATION_SETS

_SHARES = 'coco-semi'


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    layouts = {name: one.layout for name, one in EVALUATION_SETS.items()} | {_SHARES: LAYOUT}
    held = '\n'.join(f'    {name:18s}{layout}' for name, layout in layouts.items())
    parser.epilog = f'{parser.epilog}\n\nSRC must hold, by NAME:\n{held}'
    parser.add_argument(
        'name', choices=list(layouts), help='evaluation set, or coco-semi, from the list below'
    )
    parser.add_argument(
        'src', type=existing_folder, help='folder of the official files, with the images'
    )
    parser.add_argument('out', help='folder to write NAME.json into')
    return parser.parse_args()


def main() -> None:
    """Run the command."""
    args = parse_args()
    if args.name != _SHARES:
        prepare_set(args)
        return
    from cuts3d_mm.evaluation.coco_semi import write_shares

    for path, (images, objects) in write_shares(args.src, args.out).items():
        print(f'{images} images, {objects} objects -> {path}')


def prepare_set(args: argparse.Namespace) -> None:
    """Convert an evaluation set."""
    from cuts3d_mm.evaluation.conversion import prepare

    chosen = EVALUATION_SETS[args.name]
    source = chosen.open_source(args.src)
    args.out.mkdir(parents=True, exist_ok=True)
    out = args.out / f'{args.name}.json'
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
        print(f'list of them: {out.with_suffix(".problems.jsonl")}')


if __name__ == '__main__':
    run_command(main)
