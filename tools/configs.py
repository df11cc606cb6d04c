"""List the shipped configs, or those whose name or description has some words.

Examples:
    cuts3d configs
    cuts3d configs dino zoedepth
"""

from __future__ import annotations

import argparse
import ast

from cuts3d_mm.cli import UsageError, make_parser, run_command
from cuts3d_mm.configs import shipped_configs


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    parser.add_argument('words', nargs='*', metavar='WORD', help='words that must all occur')
    return parser.parse_args()


def main() -> None:
    """Run the command."""
    words = parse_args().words
    sentences = {
        config: (ast.get_docstring(ast.parse(config.read_text('utf-8'))) or '').split('\n')[0]
        for config in shipped_configs()
    }
    found = {
        config: text
        for config, text in sentences.items()
        if all(word.lower() in f'{config.stem} {text}'.lower() for word in words)
    }
    if not found:
        raise UsageError(f'WORD must occur in a config, no config of {len(sentences)} has all')
    folder = ''
    for config, text in found.items():
        if config.parent.name != folder:
            print(f'{"" if folder == "" else chr(10)}{config.parent.name}:')
            folder = config.parent.name
        print(f'  {config.stem}\n      {text}')


if __name__ == '__main__':
    run_command(main)
