from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / 'tools'


@pytest.fixture
def cuts3d(monkeypatch, capsys):
    """Run a command in this process: exit code, output, errors."""

    def run(command, *arguments):
        monkeypatch.setattr(sys, 'argv', [f'cuts3d {command}', *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(TOOLS / f'{command}.py'), run_name='__main__')
        output = capsys.readouterr()
        return ended.value.code, output.out, output.err

    return run
