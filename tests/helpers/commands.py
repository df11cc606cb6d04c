"""Commands in processes of their own: forked, stopped, or without some packages."""

from __future__ import annotations

import gc
import multiprocessing
import os
import re
import resource
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from importlib.util import find_spec
from multiprocessing import forkserver
from pathlib import Path
from unittest.mock import patch

import numpy as np
import psutil
import pytest

_LOADED = [
    'cuts3d_mm',  # before MMDetection, which finds the operators of mmcv by it
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
        env: variables apart from those of this process; with a PYTHONPATH transformers may be
            imported, as in any process but those of `light_environment`.
    """

    def __init__(self, command, dies_at=None, **env):
        program, *arguments = map(str, command)
        assert program == sys.executable, command
        self._written = tempfile.TemporaryDirectory()
        self._paths = [Path(self._written.name, name) for name in ('stdout', 'stderr')]
        for path in self._paths:
            path.touch()
        environment = {**os.environ, **{name: str(value) for name, value in env.items()}}
        work = arguments, os.getcwd(), environment, self._paths, 'PYTHONPATH' in env
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


def _run(arguments, folder, environment, paths, with_all=False):
    if with_all:
        sys.meta_path[:] = [one for one in sys.meta_path if type(one).__name__ != '_Refusal']
    for number, path in enumerate(paths, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), number)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = [path for path in _search_path(environment) if path not in sys.path]
    os.chdir(folder)
    np.random.seed()  # forked processes would draw the same numbers
    sys.argv = arguments[1:] if arguments[0] == '-m' else arguments
    if arguments[0] == '-m':
        runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)
    else:
        runpy.run_path(sys.argv[0], run_name='__main__')


def _search_path(environment):
    return list(filter(None, environment.get('PYTHONPATH', '').split(os.pathsep)))


def _die_if_there(path, *event):
    # Python calls this at all that it opens, moves or imports: no moment is missed, as it would
    # be by a process that looks from time to time.
    if os.path.exists(path):
        signal.raise_signal(signal.SIGKILL)


STOP_LIMIT_S = 30  # a machine under load; the contract is 5 s on an idle one
_START_LIMIT_S = 300


def start(*arguments, **env):
    """Start `cuts3d` with arguments in a process group of its own."""
    # A shell starts background jobs with Ctrl-C ignored, which children inherit.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return subprocess.Popen(
        [sys.executable, '-m', 'cuts3d_mm', *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**light_environment(), **env},
    )


class StartedFork:
    """`cuts3d` with arguments in a forked process and a group of its own, as `start` returns it.

    It has loaded MMDetection, so that what is stopped is the work and not the start.
    """

    def __init__(self, *arguments):
        self._folder = tempfile.TemporaryDirectory()
        self._output = Path(self._folder.name, 'output')
        self._output.touch()
        arguments = ['-m', 'cuts3d_mm', *map(str, arguments)]
        work = arguments, os.getcwd(), dict(os.environ), [self._output] * 2
        self._process = start_fork(_run_in_group, *work)
        self.pid = self._process.pid

    @property
    def returncode(self):
        return self._process.exitcode

    def poll(self):
        return self._process.exitcode

    def communicate(self, timeout):
        exit_code_of(self._process, timeout)
        return self._output.read_text(), None


def _run_in_group(*work):
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _run(*work)


def wait_until(process, is_there):
    """Wait for something that a command makes; True if it still runs then."""
    deadline = time.monotonic() + _START_LIMIT_S
    while not is_there() and process.poll() is None:
        assert time.monotonic() < deadline, 'nothing happened'
        time.sleep(0.01)
    return process.poll() is None


def is_guarded(pid):
    """Whether a process handles SIGTERM by now, as a command does before it loads anything."""
    status = Path(f'/proc/{pid}/status')
    try:
        caught = int(re.search(r'SigCgt:\s*(\w+)', status.read_text())[1], 16)
    except FileNotFoundError:  # no Linux, or it has ended
        return not Path('/proc/self/status').exists() and time.sleep(2) is None
    return bool(caught >> (signal.SIGTERM - 1) & 1)


def members(group):
    """Processes of a group that still run."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


def output_of(process, limit_s=_START_LIMIT_S, is_quiet=True):
    """Wait for a command and all its processes; returns what it said, without a traceback.

    Args:
        is_quiet: False where a process of PyTorch, not of ours, may lose its parent.
    """
    output, _ = process.communicate(timeout=limit_s)
    deadline = time.monotonic() + STOP_LIMIT_S
    while left := members(process.pid):
        assert time.monotonic() < deadline, [one.cmdline() for one in left]
        time.sleep(0.02)
    assert 'Traceback' not in output or not is_quiet, output
    return output


def stop(process, *numbers, whole_group=True, is_quiet=True):
    """Send signals; returns the output once every process of the group has ended."""
    began = time.monotonic()
    count = len(members(process.pid))
    for number in numbers:
        (os.killpg if whole_group else os.kill)(process.pid, number)
    output = output_of(process, STOP_LIMIT_S, is_quiet)
    seconds = time.monotonic() - began
    names = '+'.join(number.name for number in numbers)
    print(f'{names}: {count} processes ended in {seconds:.2f} s')  # noqa: T201
    return output


ROOT = Path(__file__).parents[2]
_HOOK = """
import importlib.abc, sys
class _Refusal(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition('.')[0] in {packages!r}:
            raise ImportError(name + ' must not be imported')
sys.meta_path.insert(0, _Refusal())
"""


def cpu_seconds():
    """CPU seconds of the child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def quick_answer(most_s, *arguments, cwd=None, **env):
    """Run a command, which must end within some seconds of CPU; what `subprocess.run` returns."""
    command = [sys.executable, '-m', 'cuts3d_mm', *map(str, arguments)]
    env = {**os.environ, 'PYTHONPATH': str(ROOT), **{name: str(env[name]) for name in env}}
    for _ in range(5):  # the first run compiles byte code, and a machine under load slows others
        before = cpu_seconds()
        done = subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True)
        seconds = cpu_seconds() - before
        if seconds < most_s:
            return done
    raise AssertionError(f'{arguments} took {seconds} s of CPU')


def light_environment():
    """Environment variables for a process that needs no transformers.

    MMDetection imports them where they are installed, which takes seconds. With the mm* packages
    alone they are not.
    """
    return environment_without(Path(_folder_of_process().name), 'transformers')


@cache
def _folder_of_process():
    return tempfile.TemporaryDirectory()


def environment_without(folder, *packages):
    """Environment variables for a process that may import anything but these.

    Args:
        folder: where the file that refuses them may be written.
    """
    refuse(folder, *packages)
    path = os.pathsep.join([str(folder), str(ROOT)])
    return {**os.environ, 'PYTHONPATH': path}


def refuse(folder, *packages):
    """Write what refuses packages in processes that have a folder on their path."""
    (folder / 'sitecustomize.py').write_text(_HOOK.format(packages=packages))


PAGE = Path(__file__).parents[2] / 'docs' / 'reproduction.md'
_LOG = 'calls'
_SEPARATOR = '\037'
_RECORD = f"""record() {{ local IFS=$'\\037'; echo "PERCENT=${{PERCENT-}}$IFS$*" >> {_LOG}; }}
cuts3d() {{ record cuts3d "$@"; }}
tools/dist_train.sh() {{ record train "$@"; }}
tools/dist_test.sh() {{ record test "$@"; }}
tools/dist_evaluate_suite.sh() {{ record evaluate-suite "$@"; }}
"""


@dataclass(frozen=True)
class Call:
    """One command: `cuts3d NAME ARGUMENTS`, or a launcher of several GPUs."""

    name: str  # of the command
    arguments: tuple[str, ...]
    percent: str  # the environment variable PERCENT, or nothing


def read_rows(folder: Path, gpus: int = 8) -> dict[str, list[Call]]:
    """Run each block of the page by bash with commands that only note how they were called.

    Args:
        folder: folder that the commands run in.
        gpus: number of GPUs that the page gets as GPUS; 8 is its default and is not passed.
    """
    environment = {**os.environ, **({} if gpus == 8 else {'GPUS': str(gpus)})}
    setup, *blocks = re.findall(r'```bash\n(.*?)```', PAGE.read_text(), flags=re.DOTALL)
    rows = {}
    for block in blocks:
        title = re.match(r'# (.*)\n', block)
        assert title, f'a block must begin with its name: {block}'
        log = folder / _LOG
        log.unlink(missing_ok=True)
        command = ['bash', '-euc', _RECORD + setup + block]
        subprocess.run(command, check=True, cwd=folder, env=environment)
        rows[title[1]] = [_command_row(line, gpus) for line in log.read_text().splitlines()]
    return rows


def _command_row(line: str, expected_gpus: int) -> Call:
    percent, program, *arguments = line.split(_SEPARATOR)
    percent = percent.partition('=')[2]
    if program == 'cuts3d':
        return Call(arguments[0], tuple(arguments[1:]), percent)
    gpus = arguments.pop(1 if program == 'train' else 2)
    assert gpus == str(expected_gpus), line
    return Call(program, tuple(arguments), percent)


@contextmanager
def left_as_they_are():
    """Leave the layout out; yields what makes it, or None where MMEngine is not installed."""
    if find_spec('mmengine') is None:
        yield None
        return
    from yapf.yapflib import yapf_api

    made_by = yapf_api.FormatCode
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(yapf_api, 'FormatCode', _as_it_is)
        # Older versions of MMEngine import the function when they are loaded.
        patch.setattr('mmengine.config.config.FormatCode', _as_it_is, raising=False)
        yield made_by


def _as_it_is(text, **style):
    return text, True
