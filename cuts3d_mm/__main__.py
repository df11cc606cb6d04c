"""`cuts3d <command>`: finds `tools/<command>.py` and runs it."""

from __future__ import annotations

import ast
import difflib
import runpy
import signal
import sys

from cuts3d_mm.processes import guard


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
    from cuts3d_mm.cli import EXIT_USAGE, list_tools

    tools = list_tools()
    command = sys.argv[1] if len(sys.argv) > 1 else '--help'
    if command == '--version':
        from cuts3d_mm import __version__

        print(f'cuts3d_mm {__version__}')
        return
    if command in tools:
        sys.argv = [f'cuts3d {command}', *sys.argv[2:]]
        runpy.run_path(str(tools[command]), run_name='__main__')
        return
    print('usage: cuts3d COMMAND ...   (cuts3d COMMAND --help)\n')
    for name, path in tools.items():
        summary = (ast.get_docstring(ast.parse(path.read_text())) or '').split('\n')[0]
        print(f'  {name:16s}{summary}')
    if command not in ('-h', '--help'):
        alike = difflib.get_close_matches(command, tools, 1)
        meant = f'; did you mean {alike[0]}?' if alike else ''
        print(f'\ncuts3d: no command {command!r}{meant}', file=sys.stderr)
        sys.exit(EXIT_USAGE)


if __name__ == '__main__':
    main()
