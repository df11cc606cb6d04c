"""Labellers of a module that the processes of a cluster can import, each with a trait to test."""

from __future__ import annotations

import os
import time
from signal import SIGKILL


class Slow:
    """Finds nothing, and takes its time."""

    stages = ()

    def extract(self, images):
        time.sleep(0.3)
        return [[] for _ in images]


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
