"""Mark files with the process that made them, to tell later whether it still lives."""

from __future__ import annotations

import hashlib
import os
import re
import socket
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_PATTERN = re.compile(r'([0-9a-f]{8})-(\d+)-(\d+)')
_START_TIME_FIELD = 19  # of /proc/PID/stat, counted after the name of the program


@dataclass(frozen=True)
class ProcessMark:
    """A process, told apart from a later one of the same number."""

    machine: str  # digest of the host and boot, and of the container
    pid: int
    started: int  # clock ticks since boot; 0 where the system does not say

    @classmethod
    def of_this_process(cls) -> ProcessMark:
        """Mark of the process that asks."""
        return cls(_machine(), os.getpid(), _start_time(os.getpid()) or 0)

    @classmethod
    def parse(cls, text: str) -> ProcessMark | None:
        """Read what `str` of a mark has given; None if it is none."""
        found = _PATTERN.fullmatch(text)
        return None if found is None else cls(found[1], int(found[2]), int(found[3]))

    def __str__(self) -> str:
        return f'{self.machine}-{self.pid}-{self.started}'

    def is_dead(self) -> bool:
        """Whether the process has certainly ended; of another machine nothing is certain."""
        return self.machine == _machine() and _start_time(self.pid) != self.started


@cache
def _machine() -> str:
    boot = Path('/proc/sys/kernel/random/boot_id')
    parts = [socket.gethostname(), boot.read_text() if boot.is_file() else '']
    if os.path.lexists('/proc/self/ns/pid'):
        parts.append(os.readlink('/proc/self/ns/pid'))
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:8]


def _start_time(pid: int) -> int | None:
    """Start of a process in clock ticks since boot; 0: it lives, since when is not known."""
    if os.path.isdir('/proc/self'):
        try:
            fields = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return None
        is_ended = fields[0] in 'XZ'  # nobody has asked for its exit code yet
        return None if is_ended else int(fields[_START_TIME_FIELD])
    if os.name == 'nt':  # os.kill would end it
        return 0
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        return 0
    return 0
