"""Hand values with large arrays to another process through shared memory.

A sender has a limited number of slots, so that it waits when its receivers are slower. A
receiver copies the arrays, and the slot is free again.
"""

from __future__ import annotations

import errno
import os
import pickle
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

_ALIGNMENT = 64  # bytes; of each array in a segment
_FOLDER = Path('/dev/shm')  # where Linux keeps shared memory


class SharedMemoryFull(RuntimeError):
    """Shared memory cannot hold what one image needs."""


@dataclass(frozen=True)
class Parcel:
    """A value on its way; its arrays lie in shared memory."""

    pickled: bytes
    sizes: tuple[int, ...]  # of the arrays, bytes
    slot: int = -1  # of the sender; -1: no array, and no slot
    segment: str = ''  # name of the shared memory


class Slots:
    """Shared memory of a sender.

    Args:
        names: of the segments, at least one, and as many as parcels may be on their way at a time.
        wait_for_free: called when all are; waits until the receiver of one has copied it, and
            returns its slot.
    """

    def __init__(self, names: Sequence[str], wait_for_free: Callable[[], int]) -> None:
        self._names = names
        self._free = list(range(len(names)))
        self._segments: dict[int, SharedMemory] = {}
        self._wait_for_free = wait_for_free

    def pack(self, value: Any) -> Parcel:
        """Put the arrays of a value into a slot, waiting for a free one.

        Raises:
            SharedMemoryFull: the value does not fit, though no other parcel is on its way.
        """
        buffers: list[pickle.PickleBuffer] = []
        pickled = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
        arrays = [buffer.raw() for buffer in buffers]
        sizes = tuple(array.nbytes for array in arrays)
        if not arrays:
            return Parcel(pickled, sizes)
        slot = self._take_slot(sum(map(_aligned, sizes)))
        segment, start = self._segments[slot], 0
        for array in arrays:
            _bytes_of(segment)[start : start + array.nbytes] = array
            start += _aligned(array.nbytes)
        return Parcel(pickled, sizes, slot, segment.name)

    def release(self, slot: int) -> None:
        """Take back a slot whose parcel was copied."""
        self._free.append(slot)

    def _take_slot(self, size: int) -> int:
        while True:
            slot = self._free.pop() if self._free else self._wait_for_free()
            if slot in self._segments and self._segments[slot].size >= size:
                return slot
            self._remove(slot)
            try:
                self._segments[slot] = _make_segment(self._names[slot], size)
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.ENOMEM):
                    raise
                self._require_others(size)
            else:
                return slot

    def _require_others(self, size: int) -> None:
        """Go on with fewer slots, as long as there are some."""
        if not self._segments:
            raise SharedMemoryFull(
                f'shared memory must hold {size / 1e6:.1f} MB for an image, it cannot; enlarge '
                'it, in a container by --shm-size=1g'
            )

    def _remove(self, slot: int) -> None:
        segment = self._segments.pop(slot, None)
        if segment is not None:
            segment.close()
            segment.unlink()


def unpack(parcel: Parcel) -> Any:
    """Copy a value out of shared memory."""
    if not parcel.sizes:
        return pickle.loads(parcel.pickled)
    segment, start, arrays = SharedMemory(parcel.segment), 0, []
    try:
        for size in parcel.sizes:
            arrays.append(bytearray(_bytes_of(segment)[start : start + size]))  # can be written to
            start += _aligned(size)
    finally:
        segment.close()
    return pickle.loads(parcel.pickled, buffers=arrays)


def segment_names(count: int) -> tuple[str, ...]:
    """Names for the shared memory of one sender, which nobody else uses."""
    token = secrets.token_hex(5)  # macOS allows 31 characters
    return tuple(f'cuts3d_{token}_{index}' for index in range(count))


@contextmanager
def removed_at_end(senders: Iterable[Sequence[str]]) -> Iterator[None]:
    """Remove the shared memory of senders, which have ended by then."""
    try:
        yield
    finally:
        for name in chain.from_iterable(senders):
            with suppress(FileNotFoundError):
                segment = SharedMemory(name)
                segment.close()
                segment.unlink()


def _make_segment(name: str, size: int) -> SharedMemory:
    """Make shared memory that is really there: Linux would else kill who writes to it."""
    segment = SharedMemory(name, create=True, size=size)
    path = _FOLDER / segment.name
    if path.exists() and hasattr(os, 'posix_fallocate'):
        descriptor = os.open(path, os.O_RDWR)
        try:
            os.posix_fallocate(descriptor, 0, size)
        except OSError:
            segment.close()
            segment.unlink()
            raise
        finally:
            os.close(descriptor)
    return segment


def _bytes_of(segment: SharedMemory) -> memoryview:
    view = segment.buf
    if view is None:
        raise ValueError('shared memory must be open, it is closed')
    return view


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
