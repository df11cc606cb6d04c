"""`cuts3d <command>`: finds `tools/<command>.py` and runs it."""

from __future__ import annotations

import os
import sys


def _distrust_current_folder() -> None:
    """Import no module that lies in the current folder by chance, such as a `torch.py`.

    `python -m` puts that folder first, and every Python that is started later does, too. Where
    the package itself was found there, as in a checkout, the folder is put behind all others.
    """
    os.environ['PYTHONSAFEPATH'] = '1'  # for all processes that this one starts
    here = os.path.dirname(os.path.abspath(__file__))
    if not sys.flags.safe_path and sys.path[:1] in ([''], [here], [_current_folder()]):
        del sys.path[0]
    root = os.path.dirname(here)
    holders = [path for path in sys.path if os.path.isdir(os.path.join(path, 'cuts3d_mm'))]
    if not holders:
        sys.path.append(root)
    elif os.path.realpath(holders[0]) != os.path.realpath(root):  # of another version
        sys.path.insert(sys.path.index(holders[0]), root)


def _open_closed_streams() -> None:
    """Let what is written to a standard stream that the caller has closed go nowhere.

    Otherwise writing fails, and the next file that is opened takes the number of the stream.
    """
    for number, name in enumerate(('stdin', 'stdout', 'stderr')):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
            setattr(sys, name, open(opened, 'w' if number else 'r', errors='backslashreplace'))


def _current_folder() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return None


_open_closed_streams()
_distrust_current_folder()  # before anything is imported that could lie there

import difflib  # noqa: E402
import runpy  # noqa: E402
import signal  # noqa: E402

from cuts3d_mm.processes import guard  # noqa: E402


def main() -> None:
    """Run the command that the first argument names."""
    try:
        with guard(f'cuts3d {" ".join(sys.argv[1:2])}'):
            _run_command_of_arguments()
    finally:
        # What is left is the end of the interpreter: Ctrl-C cuts it short.
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _run_command_of_arguments() -> None:
    # Imported when Ctrl-C and SIGTERM are handled.
    from cuts3d_mm.cli import (
        EXIT_USAGE,
        complete_command,
        is_completing,
        list_tools,
        overview,
        run_command,
    )

    tools = list_tools()
    command, *rest = sys.argv[1:] or ['--help']
    if is_completing():
        command, rest = complete_command() or command, []
    if command == 'help':
        command, *rest = [*rest, '--help'] if rest[:1] not in ([], ['help']) else ['--help']
    if command in tools:
        sys.argv = [f'cuts3d {command}', *rest]
        runpy.run_path(str(tools[command]), run_name='__main__')
    elif command == '--version':
        from cuts3d_mm import __version__

        run_command(lambda: print(f'cuts3d_mm {__version__}'))
    elif command in ('-h', '--help'):
        run_command(lambda: print(overview()))
    else:
        alike = difflib.get_close_matches(command, tools, 3)
        meant = f'; did you mean {" or ".join(alike)}?' if alike else ';'
        print(f'cuts3d: no command {command!r}{meant} cuts3d --help lists all', file=sys.stderr)
        sys.exit(EXIT_USAGE)


if __name__ == '__main__':
    main()
