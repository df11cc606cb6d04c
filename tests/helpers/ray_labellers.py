"""Labellers of a module that the processes of a cluster can import, each with a trait to test."""

from __future__ import annotations

import errno
import os
import time
from signal import SIGKILL
from types import SimpleNamespace

from cuts3d_mm.files import atomic


class Blind:
    """Finds nothing."""

    stages = ()

    def extract(self, images):
        return [[] for _ in images]


class Slow(Blind):
    """Finds nothing, and takes its time."""

    def extract(self, images):
        time.sleep(0.3)
        return super().extract(images)


class Deadly:
    """Ends its process, as the system does when memory runs out."""

    stages = ()

    def extract(self, images):
        os.kill(os.getpid(), SIGKILL)


class Disconnected:
    """Reads from a server that hangs up."""

    stages = ()

    def extract(self, images):
        raise ConnectionResetError('the server hung up')


class WithoutRoom(Blind):
    """Finds nothing, and fills the disk for the file that its process writes next."""

    def extract(self, images):
        # The `os` that this one module sees.
        atomic.os = SimpleNamespace(**{**vars(os), 'fsync': _refuse_once})
        return super().extract(images)


def _refuse_once(descriptor):
    atomic.os = os
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
