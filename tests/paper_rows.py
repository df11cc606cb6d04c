"""The commands of docs/reproduction.md, as bash expands them."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parents[1] / 'docs' / 'reproduction.md'
_LOG = 'calls'
_SEPARATOR = '\037'
_RECORD = f"""record() {{ local IFS=$'\\037'; echo "PERCENT=${{PERCENT-}}$IFS$*" >> {_LOG}; }}
cuts3d() {{ record cuts3d "$@"; }}
tools/dist_train.sh() {{ record train "$@"; }}
tools/dist_test.sh() {{ record test "$@"; }}
"""


@dataclass(frozen=True)
class Call:
    """One command: `cuts3d NAME ARGUMENTS`, or a launcher of several GPUs."""

    name: str  # of the command
    arguments: tuple[str, ...]
    percent: str  # the environment variable PERCENT, or nothing


def read_rows(folder: Path) -> dict[str, list[Call]]:
    """Run each block of the page by bash with commands that only note how they were called."""
    setup, *blocks = re.findall(r'```bash\n(.*?)```', PAGE.read_text(), flags=re.DOTALL)
    rows = {}
    for block in blocks:
        title = re.match(r'# (.*)\n', block)
        assert title, f'a block must begin with its name: {block}'
        log = folder / _LOG
        log.unlink(missing_ok=True)
        subprocess.run(['bash', '-euc', _RECORD + setup + block], check=True, cwd=folder)
        rows[title[1]] = [_call(line) for line in log.read_text().splitlines()]
    return rows


def _call(line: str) -> Call:
    percent, program, *arguments = line.split(_SEPARATOR)
    percent = percent.partition('=')[2]
    if program == 'cuts3d':
        return Call(arguments[0], tuple(arguments[1:]), percent)
    gpus = arguments.pop(1 if program == 'train' else 2)
    assert gpus == '8', line
    return Call(program, tuple(arguments), percent)
