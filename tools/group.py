"""Put the instances of labels that look alike into groups, for names.

Examples:
    cuts3d group labels images groups --features cuts3d_color-texture_file-depth --groups 2
"""

from __future__ import annotations

import argparse

from cuts3d_mm.cli import (
    at_least,
    generator_name,
    image_folder,
    label_store_path,
    make_parser,
    report_refused,
    run_command,
)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    parser.add_argument(
        'labels', type=label_store_path, help='label store, the OUT of cuts3d generate'
    )
    parser.add_argument(
        'images', type=image_folder, help='folder of the images that were labelled'
    )
    parser.add_argument(
        'out', help='folder to write: groups.json, and a contact sheet for each group'
    )
    parser.add_argument(
        '--groups',
        type=at_least(1),
        help='number of groups (default: twice the square root of the number of instances); too '
        'many are easier to name than too few',
    )
    parser.add_argument(
        '--features',
        type=generator_name,
        help='generator whose features describe the instances (default: the embeddings of LABELS, '
        'which cuts3d generate --embed keeps)',
    )
    parser.add_argument('--device')
    parser.add_argument('--seed', help='seed of what is drawn at random')
    return parser.parse_args()


def main() -> int:
    """Run the command."""
    args = parse_args()
    from cuts3d_mm.configs import load_generator_config
    from cuts3d_mm.labels.store import read_store
    from cuts3d_mm.pipeline.grouped_labels import group_labels
    from cuts3d_mm.visualization.contact_sheets import write_sheets

    embedder = None
    if args.features:
        from cuts3d_mm.labellers.embedding import Embedder

        model = load_generator_config(args.features, [])
        embedder = Embedder.of_generator(model, args.device)
    records = read_store(args.labels)
    found = group_labels(records, args.images, args.out, args.groups, args.seed, embedder)
    sheets = write_sheets(read_store(args.labels), args.images, found.groups, args.out)
    sure = found.groups.is_sure.mean()
    print(
        f'{len(found.groups.group)} instances, {sure:.0%} sure: {len(sheets)} groups -> {args.out}'
    )
    return report_refused(found.left_out)


if __name__ == '__main__':
    run_command(main)
