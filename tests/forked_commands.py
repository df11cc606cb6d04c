"""Commands in processes of their own, forked from one that has loaded torch and MMDetection.

A fresh interpreter takes seconds to load them. A fact about a fresh interpreter, a signal or a
launcher needs `subprocess`.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from functools import partial
from multiprocessing import forkserver
from pathlib import Path
from unittest.mock import patch

import numpy as np
from config_texts import left_as_they_are
from without_packages import light_environment

_LOADED = [
    'mmdet.apis',
    'mmpretrain.models',
    'pandas',  # by pyarrow, where it is installed
    *(f'cuts3d_mm.{name}' for name in ('datasets', 'engine.hooks', 'engine.runner', 'registry')),
]
_LONGEST_S = 300
_context = multiprocessing.get_context('forkserver')
_context.set_forkserver_preload(_LOADED)


class ForkedCommand:
    """A Python file or module that runs with arguments.

    Args:
        command: this interpreter, the file or `-m` and the module, and its arguments.
        dies_at: a path; as soon as it is there the process ends as if killed.
        env: variables apart from those of this process.
    """

    def __init__(self, command, dies_at=None, **env):
        program, *arguments = map(str, command)
        assert program == sys.executable, command
        self._written = tempfile.TemporaryDirectory()
        self._paths = [Path(self._written.name, name) for name in ('stdout', 'stderr')]
        for path in self._paths:
            path.touch()
        environment = {**os.environ, **{name: str(value) for name, value in env.items()}}
        work = arguments, os.getcwd(), environment, self._paths
        self._process = start_fork(_run, *work, dies_at=dies_at)

    def completed(self, limit_s=_LONGEST_S):
        """Wait for its end; what `subprocess.run` returns."""
        code = exit_code_of(self._process, limit_s)
        texts = [path.read_text() for path in self._paths]
        return subprocess.CompletedProcess(self._process.name, code, *texts)


def run_forked(command, dies_at=None):
    """Run a Python file or module with arguments in a forked process."""
    return ForkedCommand(command, dies_at).completed()


def start_fork(function, *arguments, dies_at=None, **options):
    """Call a function in a forked process; `dies_at` as of `ForkedCommand`."""
    process = _context_here().Process(target=_call, args=(function, arguments, options, dies_at))
    process.start()
    return process


def _context_here():
    if multiprocessing.parent_process() is not None:  # it is forked and has loaded all
        return multiprocessing.get_context('fork')
    with patch.dict(os.environ, light_environment()):
        forkserver.ensure_running()
    return _context


def exit_code_of(fork, limit_s=_LONGEST_S):
    """Wait for the end of a forked process; its exit code."""
    fork.join(limit_s)
    assert fork.exitcode is not None, f'still runs after {limit_s} s'
    return fork.exitcode


def _call(function, arguments, options, dies_at):
    gc.freeze()  # what the server has loaded is no garbage
    if dies_at is not None:
        sys.addaudithook(partial(_die_if_there, str(dies_at)))
    with left_as_they_are():
        function(*arguments, **options)


def _run(arguments, folder, environment, paths):
    for number, path in enumerate(paths, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    np.random.seed()  # forked processes would draw the same numbers
    sys.argv = arguments[1:] if arguments[0] == '-m' else arguments
    if arguments[0] == '-m':
        runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)
    else:
        runpy.run_path(sys.argv[0], run_name='__main__')


def _die_if_there(path, *event):
    # Python calls this at all that it opens, moves or imports: no moment is missed, as it would
    # be by a process that looks from time to time.
    if os.path.exists(path):
        signal.raise_signal(signal.SIGKILL)
