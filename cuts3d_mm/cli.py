"""What commands share: how they run, errors in one line, exit codes, labelling many images."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from cuts3d_mm.arguments import program
from cuts3d_mm.configs import shipped_root
from cuts3d_mm.error_report import ErrorsInOneLine
from cuts3d_mm.foreign_messages import silence
from cuts3d_mm.interruption import advise, guard

RESUMES = 'run the same command again to resume'
EXIT_FAILURES = 3  # done, with more failures than allowed


def list_tools() -> dict[str, Path]:
    """Commands by name."""
    tools = (shipped_root() / 'tools').glob('*.py')
    return {path.stem.replace('_', '-'): path for path in sorted(tools)}


def run_command(main: Callable[[], int | None], if_interrupted: str = '') -> NoReturn:
    """Run a command; an error is one line, Ctrl-C and SIGTERM end it within seconds.

    Args:
        main: returns the exit code; None is 0.
        if_interrupted: what an interrupted command says, such as how to resume.
    """
    with guard(program()), ErrorsInOneLine(program()):
        silence()
        advise(if_interrupted)
        sys.exit(main() or 0)


def report_refused(reasons: Sequence[str]) -> int:
    """Print why images were left out, a line each; return the exit code."""
    for reason in reasons:
        print(f'{program()}: left out: {reason}', file=sys.stderr)
    return EXIT_FAILURES if reasons else 0
