"""Labellers, each with a trait to test; other processes import this file within a moment."""

from __future__ import annotations

import errno
import os
import time
from functools import partial
from signal import SIGKILL
from types import SimpleNamespace

import numpy as np

from cuts3d_mm.files import atomic
from cuts3d_mm.images.reading import ImageFailure
from cuts3d_mm.labellers.generator import Stage


class Blind:
    """Finds nothing."""

    stages = ()

    def extract(self, images):
        return [[] for _ in images]

    def predict_batch(self, images):
        return [() for _ in images]


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


class Halving:
    """A labeller whose device has memory for one image; 'b' cannot be cut, 'c' kills."""

    def extract(self, images):
        if len(images) > 1:
            raise MemoryError('one image only')
        return [(image.name, image.pixels) for image in images]

    @property
    def stages(self):
        return (Stage('cut', cut_by_name),)

    def predict_batch(self, images):
        return [self.stages[0].run(found) for found in self.extract(images)]


class DiesOnce:
    """A labeller that a signal ends while it labels b/001.png, as often as there are files.

    Args:
        folder: folder of the files; each death takes one.
        number: signal.
    """

    stages = ()

    def __init__(self, folder, number=SIGKILL):
        self.folder, self.number = folder, number

    def to(self, device):
        return self

    def extract(self, images):
        lives = sorted(self.folder.iterdir())
        if lives and any(image.name == 'b/001.png' for image in images):
            lives[0].unlink()
            os.kill(os.getpid(), self.number)
        return [() for _ in images]


class Nothing:
    """A detector that finds nothing, and has masks of that."""

    @property
    def stages(self):
        from cuts3d_mm.labellers.detector import read_detections

        return (Stage('unpack', partial(read_detections, confidence_source='none')),)

    def extract(self, images):
        from cuts3d_mm.labellers.detector import DetectorOutput

        nothing = DetectorOutput((), np.zeros(0), np.zeros((0, 4)), np.zeros(0), (60, 88), ())
        return [nothing for _ in images]


class Greedy:
    """A labeller whose masks need more memory than there is."""

    stages = ()

    class Instance:
        confidence, score = None, 0.5

        @property
        def mask(self):
            raise MemoryError('masks')

    def extract(self, images):
        return [[self.Instance()] for _ in images]


def cut_by_name(found):
    name, _ = found
    if name.startswith('b'):
        raise ImageFailure('cannot be cut')
    if name.startswith('c'):
        os.kill(os.getpid(), SIGKILL)
    return []
