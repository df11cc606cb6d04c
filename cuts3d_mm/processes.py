"""Start child processes, stop them with this process, and handle signals."""

from __future__ import annotations

import ctypes
import inspect
import multiprocessing
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from cuts3d_mm.mmengine_imports import silence

STARTER_KEY = 'CUTS3D_STARTER'  # environment: id of the process to end with
KEEP_HEAP_KEY = 'CUTS3D_KEEP_HEAP'  # environment; 0: workers give freed memory back
# Settings of glibc: what is freed stays with the process, in pages of 2 MB, for the next image.
_KEPT_HEAP = {'hugetlb': 1, 'mmap_threshold': 2**27, 'trim_threshold': 2**28, 'top_pad': 2**26}
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_POLL_S = 0.5
_KEPT_LINES = 50  # of the output of a command
_commands: set[subprocess.Popen[Any]] = set()
GRACE_S = 3.0  # for unwinding; a command ends within 5 s
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_ERASE_LINE_SHOW_CURSOR = '\r\x1b[K\x1b[?25h'  # a progress bar may have hidden it


def end_with(pid: int, by_main_thread: bool) -> None:
    """Kill this process as soon as another one has ended.

    Args:
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

    The function gets a connection, whose other end is returned, and the payload.
    """
    # Spawned, not forked: a forked process cannot use a GPU that its parent has touched.
    context = multiprocessing.get_context('spawn')
    ours, theirs = context.Pipe()
    by_main_thread = threading.current_thread() is threading.main_thread()
    # Pickled apart: the child begins to watch before it imports what the payload needs.
    arguments = (theirs, os.getpid(), by_main_thread, pickle.dumps((target, payload)))
    process = context.Process(target=_begin, args=arguments)
    with _environment({'PYTHONSAFEPATH': '1', **heap_variables()}), signals_blocked():
        process.start()
    theirs.close()
    return process, ours


def heap_variables() -> dict[str, str]:
    """Environment of a process that works on many images: its heap keeps its memory.

    Empty where `KEEP_HEAP_KEY` is 0, or where the user has settings for glibc.
    """
    if os.environ.get(KEEP_HEAP_KEY) == '0' or 'GLIBC_TUNABLES' in os.environ:
        return {}
    settings = (f'glibc.malloc.{name}={value}' for name, value in _KEPT_HEAP.items())
    return {'GLIBC_TUNABLES': ':'.join(settings)}


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set variables for processes that are started meanwhile."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def run_command_in_child(
    command: Sequence[str],
    report: Callable[[str], None] = lambda line: None,
    variables: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command of this package, which ends with this process.

    It imports nothing from the current folder, nor does what it starts.

    Args:
        command: program and arguments; `-m cuts3d_mm` may stand at any place.
        report: is given each line that it writes, as it writes it.
        variables: of its environment, next to those of this process.

    Returns:
        Its exit code, and the last lines that it wrote to either stream.
    """
    own = {'PYTHONSAFEPATH': '1', STARTER_KEY: str(os.getpid())}
    environment = {**os.environ, **(variables or {}), **own}
    streams: dict[str, Any] = {'stdout': subprocess.PIPE, 'stderr': subprocess.STDOUT}
    words = _without_search(command)
    child = subprocess.Popen(words, text=True, errors='replace', env=environment, **streams)
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


def _without_search(command: Sequence[str]) -> list[str]:
    """Name this package by its file: Python would look for it in the current folder first."""
    words = list(command)
    for index in range(len(words) - 1):
        if words[index : index + 2] == ['-m', 'cuts3d_mm']:
            words[index : index + 2] = [str(Path(__file__).with_name('__main__.py'))]
            break
    return words


def end_children() -> None:
    """Kill the processes that this one has started."""
    for process in multiprocessing.active_children():
        process.kill()
    for command in list(_commands):
        command.kill()


@cache
def _prepare_forks() -> None:
    """Let every process forked from now on, such as loaders of data, end with this one."""
    if not hasattr(os, 'register_at_fork'):
        return
    forker = [0, True]  # id of the process that forks, whether by its main thread

    def note_forker() -> None:
        forker[:] = os.getpid(), threading.current_thread() is threading.main_thread()

    def begin_fork() -> None:
        _forget()
        end_with(forker[0], bool(forker[1]))

    os.register_at_fork(before=note_forker, after_in_child=begin_fork)


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


class _State:
    """Of this process; signals are handled by the process, not by an object of it."""

    is_guarded = False
    is_running = False  # whether an exception would be caught
    program = 'cuts3d'
    advice = ''
    signum = 0  # of the first signal
    is_told = False


@contextmanager
def guard(program: str) -> Iterator[None]:
    """End this process as the module says while the block runs; inner guards do nothing.

    The line of an interruption begins with `program`.
    """
    if _State.is_guarded or threading.current_thread() is not threading.main_thread():
        yield
        return
    _State.is_guarded, _State.is_running, _State.program = True, True, program
    end_with_starter()
    _prepare_forks()
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    threading.Thread(target=_watch, args=(ours,), daemon=True).start()
    hook, sys.unraisablehook = sys.unraisablehook, _silent_once_interrupted(sys.unraisablehook)
    wakeup_fd = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    # Ignored: a shell started this in the background.
    numbers = [one for one in _SIGNALS if signal.getsignal(one) is not signal.SIG_IGN]
    handlers = {number: signal.signal(number, _on_signal) for number in numbers}
    try:
        with _environment({'PYTHONSAFEPATH': '1'}):  # no import from the current folder
            yield
    finally:
        _State.is_running = False
        if _State.signum:
            end_interrupted()
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(wakeup_fd)
        theirs.close()
        sys.unraisablehook = hook
        _State.is_guarded, _State.advice = False, ''


def advise(advice: str) -> None:
    """Set what an interrupted command says: how to resume, or what is there."""
    _State.advice = advice


def was_interrupted() -> bool:
    """Tell whether a signal has come, so that any exception is a consequence of it."""
    return bool(_State.signum)


def end_interrupted() -> NoReturn:
    """Say how to resume and end this process, unwound or not."""
    _tell()
    if not _State.is_running:  # unwound: nobody else holds the lock of a stream
        with suppress(OSError, ValueError):
            sys.stdout.flush()
    end_children()
    os._exit(128 + (_State.signum or signal.SIGINT))


def _on_signal(number: int, frame: FrameType | None) -> None:
    is_second, _State.signum = bool(_State.signum), _State.signum or number
    if is_second or not _State.is_running or _is_importing(frame):
        end_interrupted()
    end_children()
    raise KeyboardInterrupt


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == '<frozen importlib._bootstrap>':
            return True
        frame = frame.f_back
    return False


def _watch(reader: socket.socket) -> None:
    """Wait for a signal, then for a second one or the end of the grace period."""
    deadline_s = None
    while True:
        left_s = None if deadline_s is None else max(0.0, deadline_s - time.monotonic())
        if not select.select([reader], [], [], left_s)[0]:
            break
        received = reader.recv(1)
        if not received:
            return
        if received[0] in _SIGNALS:
            if deadline_s is not None:
                break
            deadline_s = time.monotonic() + GRACE_S
            # Not yet `signum`: to the handler that would be a second signal.
            last = received[0]
    _State.signum = _State.signum or last
    end_interrupted()


def _tell() -> None:
    is_first_rank = os.environ.get('RANK', os.environ.get('SLURM_PROCID', '0')) == '0'
    if _State.is_told or not is_first_rank:
        return
    _State.is_told = True
    advice = f'; {_State.advice}' if _State.advice else ''
    start = _ERASE_LINE_SHOW_CURSOR if os.isatty(2) else ''
    with suppress(OSError):  # unbuffered: another thread may hold the lock of sys.stderr
        os.write(2, f'{start}{_State.program}: interrupted{advice}\n'.encode())


def _silent_once_interrupted(hook: Any) -> Any:
    """Drop the report of an exception that unwinding raised where none can be caught."""
    return lambda report: None if was_interrupted() else hook(report)


def _forget() -> None:
    """Leave the signals of a forked child to its parent."""
    if _State.is_guarded:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def signals_blocked() -> Iterator[None]:
    """Block Ctrl-C and SIGTERM; a process that is started meanwhile never gets them."""
    if not hasattr(signal, 'pthread_sigmask'):
        yield
        return
    # Started with the first child, and then unblocks these signals.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        with handlers_deferred():
            yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def handlers_deferred() -> Iterator[None]:
    """Call the handlers of Ctrl-C and SIGTERM at the end of a block, such as a last save.

    A second signal, or the end of the grace period, still ends a guarded process. A signal that
    this thread blocks is taken by another one, but handled in this one.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []
    current: dict[int, Any] = {number: signal.getsignal(number) for number in _SIGNALS}
    handlers = {number: handler for number, handler in current.items() if callable(handler)}
    for number in handlers:
        signal.signal(number, lambda number, frame: received.append(number))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for number in received:
            handlers[number](number, inspect.currentframe())
