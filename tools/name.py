"""Write labels with the classes that groups of their instances were given.

Examples:
    cuts3d name labels groups/names.json named
"""

from __future__ import annotations

import argparse

from cuts3d_mm.cli import existing_file, label_store_path, make_parser, run_command


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    parser.add_argument('labels', type=label_store_path, help='label store that was grouped')
    parser.add_argument(
        'names',
        type=existing_file,
        help='names.json, which the pages of cuts3d browse-labels --groups write, next to '
        'groups.json',
    )
    parser.add_argument(
        'out', help='label store to write; instances of groups without a name are left out'
    )
    return parser.parse_args()


def main() -> None:
    """Run the command."""
    args = parse_args()
    from cuts3d_mm.labels.naming import (
        GROUPS_FILE,
        StoredGroups,
        apply,
        name_records,
        read_operations,
    )
    from cuts3d_mm.labels.store import read_store, write_store

    groups = StoredGroups.read(args.names.parent / GROUPS_FILE)
    naming = apply(read_operations(args.names), groups)
    if not naming.classes:
        raise ValueError(f'{args.names} must name a group, it names none that has instances')
    counts = write_store(args.out, name_records(read_store(args.labels), groups, naming))
    left_out = len(naming.group) - counts.instances
    print(
        f'{counts.instances} instances of {len(naming.classes)} classes, {left_out} without a '
        f'name left out -> {args.out}'
    )


if __name__ == '__main__':
    run_command(main)
