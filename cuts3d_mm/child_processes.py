"""Child processes that end with the process that started them, even if that is killed."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from cuts3d_mm.blocked_signals import signals_blocked
from cuts3d_mm.foreign_messages import silence

STARTER_KEY = 'CUTS3D_STARTER'  # environment: id of the process to end with
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_POLL_S = 0.5
_KEPT_LINES = 50  # of the output of a command

_commands: set[subprocess.Popen[Any]] = set()
_forker = 0, True  # id of the process that forks, whether by its main thread
_forks_prepared = False


def end_with(pid: int, by_main_thread: bool) -> None:
    """Kill this process as soon as another one has ended.

    Args:
        pid: the other process.
        by_main_thread: whether the main thread of that process started this one. Linux can
            end a process with the *thread* that started it.
    """
    if os.getppid() == pid and by_main_thread and _ends_with_parent_on_linux():
        if os.getppid() != pid:  # it was gone before
            os._exit(1)
        return
    threading.Thread(target=_poll, args=(pid,), daemon=True).start()


def end_with_starter() -> None:
    """End this process with the one that `STARTER_KEY` or a launcher of ranks names."""
    pid = int(os.environ.get(STARTER_KEY, '0'))
    if pid and pid != os.getpid():
        del os.environ[STARTER_KEY]  # it is not the starter of our own children
        end_with(pid, by_main_thread=False)
    if 'TORCHELASTIC_RUN_ID' in os.environ:
        end_with(os.getppid(), by_main_thread=False)


def start_child(target: Callable[..., None], *payload: Any) -> tuple[BaseProcess, Connection]:
    """Start a function in a new process that ends with this one and gets no signals of it.

    Args:
        target: function of a module, called with a connection and the payload.
        payload: further arguments, picklable.

    Returns:
        The process, and our end of the connection.
    """
    # Spawned, not forked: a forked process cannot use a GPU that its parent has touched.
    context = multiprocessing.get_context('spawn')
    ours, theirs = context.Pipe()
    by_main_thread = threading.current_thread() is threading.main_thread()
    # Pickled apart: the child begins to watch before it imports what the payload needs.
    arguments = (theirs, os.getpid(), by_main_thread, pickle.dumps((target, payload)))
    process = context.Process(target=_begin, args=arguments, daemon=True)
    with signals_blocked():
        process.start()
    theirs.close()
    return process, ours


def run_command_in_child(
    command: Sequence[str],
    report: Callable[[str], None] = lambda line: None,
    variables: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command of this package, which ends with this process.

    Args:
        command: to run.
        report: is given each line that it writes, as it writes it.
        variables: of its environment, next to those of this process.

    Returns:
        Its exit code, and the last lines that it wrote to either stream.
    """
    environment = {**os.environ, **(variables or {}), STARTER_KEY: str(os.getpid())}
    streams: dict[str, Any] = {'stdout': subprocess.PIPE, 'stderr': subprocess.STDOUT}
    child = subprocess.Popen(command, text=True, errors='replace', env=environment, **streams)
    _commands.add(child)
    last: deque[str] = deque(maxlen=_KEPT_LINES)
    try:
        with child:
            for line in child.stdout or ():
                last.append(line)
                report(line.rstrip('\n'))
    finally:
        child.kill()
        _commands.discard(child)
    return subprocess.CompletedProcess(command, child.returncode, ''.join(last))


def end_children() -> None:
    """Kill the processes that this one has started."""
    for process in multiprocessing.active_children():
        process.kill()
    for command in list(_commands):
        command.kill()


def prepare_forks(in_child: Callable[[], None]) -> None:
    """Let every process forked from now on end with this one, such as loaders of data.

    Args:
        in_child: also called in each of them.
    """
    global _forks_prepared
    if _forks_prepared or not hasattr(os, 'register_at_fork'):
        return
    _forks_prepared = True

    def begin_fork() -> None:
        in_child()
        end_with(*_forker)

    os.register_at_fork(before=_note_forker, after_in_child=begin_fork)


def _note_forker() -> None:
    global _forker
    _forker = os.getpid(), threading.current_thread() is threading.main_thread()


def _begin(connection: Connection, pid: int, by_main_thread: bool, work: bytes) -> None:
    end_with(pid, by_main_thread)
    silence()
    target, payload = pickle.loads(work)
    target(connection, *payload)


def _ends_with_parent_on_linux() -> bool:
    if not sys.platform.startswith('linux'):
        return False
    try:
        return ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL)) == 0
    except (OSError, AttributeError):
        return False


def _poll(pid: int) -> None:
    parent = multiprocessing.parent_process()
    if parent is not None and parent.pid == pid:
        parent.join()  # works where there are no signals, too
        os._exit(1)
    is_parent = os.getppid() == pid
    while (os.getppid() == pid) if is_parent else _is_alive(pid):
        time.sleep(_POLL_S)
    os._exit(1)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
