"""End a command within seconds of Ctrl-C or SIGTERM, whatever it is doing.

The first signal ends the child processes and unwinds the command by a KeyboardInterrupt, so
that files are closed. Python acts on a signal between two steps of Python code only, and
libraries may swallow the exception, so a thread watches too: after a grace period, or at the
second signal, it ends the process. Imports are not unwound, since compiled modules may crash
on an exception while they start.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn

from cuts3d_mm.child_processes import end_children, end_with_starter, prepare_forks

GRACE_S = 3.0  # for unwinding; a command ends within 5 s
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_ERASE_LINE_SHOW_CURSOR = '\r\x1b[K\x1b[?25h'  # a progress bar may have hidden it


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

    Args:
        program: what the line of an interruption begins with.
    """
    if _State.is_guarded or threading.current_thread() is not threading.main_thread():
        yield
        return
    _State.is_guarded, _State.is_running, _State.program = True, True, program
    end_with_starter()
    prepare_forks(_forget)
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    threading.Thread(target=_watch, args=(ours,), daemon=True).start()
    hook, sys.unraisablehook = sys.unraisablehook, _silent_once_interrupted(sys.unraisablehook)
    wakeup_fd = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    # Ignored: a shell started this in the background.
    numbers = [one for one in _SIGNALS if signal.getsignal(one) is not signal.SIG_IGN]
    handlers = {number: signal.signal(number, _on_signal) for number in numbers}
    try:
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
