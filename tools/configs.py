"""List the shipped configs, or those whose name or description has some words.

Examples:
    cuts3d configs
    cuts3d configs dino zoedepth
    cuts3d configs --json > configs.json
"""

from __future__ import annotations

import argparse
import ast
import json

from cuts3d_mm.cli import make_parser, run_command
from cuts3d_mm.configs import shipped_configs


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    parser.add_argument('words', nargs='*', metavar='WORD', help='words that must all occur')
    parser.add_argument(
        '--json', action='store_true', help='print a JSON list of names, paths and descriptions'
    )
    return parser.parse_args()


def main() -> None:
    """Run the command."""
    args = parse_args()
    sentences = {
        config: (ast.get_docstring(ast.parse(config.read_text('utf-8'))) or '').split('\n')[0]
        for config in shipped_configs()
    }
    found = {
        config: text
        for config, text in sentences.items()
        if all(word.lower() in f'{config.stem} {text}'.lower() for word in args.words)
    }
    if not found:
        raise ValueError(f'WORD must occur in a config, no config of {len(sentences)} has all')
    if args.json:
        listed = [
            {'name': config.stem, 'path': str(config), 'description': text}
            for config, text in found.items()
        ]
        print(json.dumps(listed, indent=1))
        return
    folder = ''
    for config, text in found.items():
        if config.parent.name != folder:
            print(f'{"" if folder == "" else chr(10)}{config.parent.name}:')
            folder = config.parent.name
        print(f'  {config.stem}\n      {text}')


if __name__ == '__main__':
    run_command(main)
