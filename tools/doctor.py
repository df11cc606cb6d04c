"""Print the environment and what is wrong with it, each with its remedy.

Examples:
    cuts3d doctor
"""

from __future__ import annotations

import argparse

from cuts3d_mm.arguments import make_parser
from cuts3d_mm.cli import run_command


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    return make_parser(__doc__).parse_args()


def main() -> int:
    """Run the command; exit code 1 if something is wrong."""
    parse_args()
    from cuts3d_mm.doctor import examine
    from cuts3d_mm.installation import describe_environment

    for name, found in describe_environment().items():
        print(f'{name:24s}{found}')
    findings = examine()
    for finding in findings:
        print(f'\n{"PROBLEM" if finding.is_serious else "missing"}: {finding.what}')
        print(f'  remedy: {finding.remedy}')
    if not findings:
        print('\nall good')
    return int(any(finding.is_serious for finding in findings))


if __name__ == '__main__':
    run_command(main)
