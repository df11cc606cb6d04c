"""Commands in processes of their own, forked from one that has loaded torch and MMDetection.

A fresh interpreter takes seconds to load them. A fact about a fresh interpreter, a signal or a
launcher needs `subprocess`.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from config_texts import left_as_they_are

_LOADED = ['mmdet.apis', 'mmpretrain.models', 'cuts3d_mm.registry', 'cuts3d_mm.engine.runner']
_LONGEST_S = 300
_context = multiprocessing.get_context('forkserver')
_context.set_forkserver_preload(_LOADED)


class ForkedCommand:
    """A Python file that runs with arguments.

    Args:
        command: this interpreter, the file and its arguments.
        env: variables apart from those of this process.
    """

    def __init__(self, command, **env):
        program, *arguments = map(str, command)
        assert program == sys.executable and arguments[0].endswith('.py'), command
        self._written = tempfile.TemporaryDirectory()
        self._paths = [Path(self._written.name, name) for name in ('stdout', 'stderr')]
        for path in self._paths:
            path.touch()
        environment = {**os.environ, **{name: str(value) for name, value in env.items()}}
        work = (arguments, os.getcwd(), environment, self._paths)
        self._process = _context.Process(target=_run, args=work)
        self._process.start()

    def is_running(self):
        return self._process.is_alive()

    def kill(self):
        """End it by SIGKILL, and wait for that."""
        self._process.kill()
        self._process.join()

    def completed(self, limit_s=_LONGEST_S):
        """Wait for its end; what `subprocess.run` returns."""
        self._process.join(limit_s)
        code = self._process.exitcode
        assert code is not None, f'still runs after {limit_s} s'
        texts = [path.read_text() for path in self._paths]
        return subprocess.CompletedProcess(self._process.name, code, *texts)


def run_forked(command):
    """Run a Python file with arguments in a forked process."""
    return ForkedCommand(command).completed()


def _run(arguments, folder, environment, paths):
    for number, path in enumerate(paths, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    np.random.seed()  # forked processes would draw the same numbers
    sys.argv = arguments
    with left_as_they_are():
        runpy.run_path(arguments[0], run_name='__main__')
