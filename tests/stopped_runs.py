"""Commands that a test stops: a process group of their own, signals, and what is left."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
from without_packages import light_environment

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


def output_of(process, limit_s=_START_LIMIT_S):
    """Wait for a command and all its processes; returns what it said, without a traceback."""
    output, _ = process.communicate(timeout=limit_s)
    deadline = time.monotonic() + STOP_LIMIT_S
    while left := members(process.pid):
        assert time.monotonic() < deadline, [one.cmdline() for one in left]
        time.sleep(0.02)
    assert 'Traceback' not in output, output
    return output


def stop(process, *numbers, whole_group=True):
    """Send signals; returns the output once every process of the group has ended."""
    began = time.monotonic()
    count = len(members(process.pid))
    for number in numbers:
        (os.killpg if whole_group else os.kill)(process.pid, number)
    output = output_of(process, STOP_LIMIT_S)
    seconds = time.monotonic() - began
    names = '+'.join(number.name for number in numbers)
    print(f'{names}: {count} processes ended in {seconds:.2f} s')  # noqa: T201
    return output
