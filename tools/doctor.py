"""Print the environment and what is wrong with it, each with its remedy.

Examples:
    cuts3d doctor
    cuts3d doctor --json > environment.json
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from cuts3d_mm.cli import make_parser, run_command

if TYPE_CHECKING:
    from cuts3d_mm.doctor import Finding


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    parser.add_argument(
        '--json', action='store_true', help='print one JSON object, with environment and findings'
    )
    return parser.parse_args()


def main() -> int:
    """Run the command; exit code 1 if something is wrong."""
    args = parse_args()
    from cuts3d_mm.doctor import describe_environment, examine, gather_facts

    facts = gather_facts()
    environment, findings = describe_environment(facts), examine(facts)
    if args.json:
        found = [asdict(finding) for finding in findings]
        print(json.dumps({'environment': environment, 'findings': found}, indent=1))
    else:
        print_report(environment, findings)
    return int(any(finding.is_serious for finding in findings))


def print_report(environment: dict[str, str], findings: list[Finding]) -> None:
    """Print what a bug report quotes."""
    for name, found in environment.items():
        print(f'{name:24s}{found}')
    for finding in findings:
        print(f'\n{"PROBLEM" if finding.is_serious else "missing"}: {finding.what}')
        print(f'  remedy: {finding.remedy}')
    if not findings:
        print('\nall good')


if __name__ == '__main__':
    run_command(main)
