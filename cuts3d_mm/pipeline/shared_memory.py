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
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

_MOST_BYTES = 2**31  # from one sender; a hundred masks of a large photo are much of it
_ALIGNMENT = 64  # bytes; of each array in a segment
_FOLDER = Path('/dev/shm')  # where Linux keeps shared memory


@dataclass(frozen=True)
class Parcel:
    """A value on its way; large arrays lie in shared memory."""

    pickled: bytes
    sizes: tuple[int, ...]  # of the arrays in shared memory, bytes
    slot: int  # of the sender, taken until the receiver has copied the value
    segment: str = ''  # name of the shared memory; '': nothing lies there


class Slots:
    """Shared memory of a sender.

    Args:
        names: of the segments, at least one, and as many as parcels may be on their way at a time.
        wait_for_free: called when all are; waits until the receiver of one has copied it, and
            returns its slot.
        most_bytes: of all parcels on their way; a larger one goes alone.
    """

    def __init__(
        self,
        names: Sequence[str],
        wait_for_free: Callable[[], int],
        most_bytes: int = _MOST_BYTES,
    ) -> None:
        self._names, self._most_bytes = names, most_bytes
        self._free = list(range(len(names)))
        self._segments: dict[int, SharedMemory] = {}
        self._wait_for_free = wait_for_free

    def pack(self, value: Any) -> Parcel:
        """Put the arrays of a value into a slot, waiting for a free one and for room.

        Where shared memory is full, the arrays go with the parcel, which is slower.
        """
        buffers: list[pickle.PickleBuffer] = []
        pickled = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
        arrays = [buffer.raw() for buffer in buffers]
        sizes = tuple(array.nbytes for array in arrays)
        size = sum(map(_aligned, sizes))
        slot = self._take_slot(size)
        if not any(sizes) or not self._make_room(slot, size):
            return Parcel(pickle.dumps(value), (), slot)
        segment, start = self._segments[slot], 0
        for array in arrays:
            _bytes_of(segment)[start : start + array.nbytes] = array
            start += _aligned(array.nbytes)
        return Parcel(pickled, sizes, slot, segment.name)

    def release(self, slot: int) -> None:
        """Take back a slot whose parcel was copied."""
        self._free.append(slot)

    def _take_slot(self, size: int) -> int:
        """Wait until there is a slot, and room for some bytes besides those on their way."""
        while not self._free or self._bytes_on_their_way() + size > self._most_bytes:
            if len(self._free) == len(self._names):
                break
            self._free.append(self._wait_for_free())
        return self._free.pop()

    def _bytes_on_their_way(self) -> int:
        return self._bytes() - sum(
            self._segments[i].size for i in self._free if i in self._segments
        )

    def _bytes(self) -> int:
        return sum(segment.size for segment in self._segments.values())

    def _make_room(self, slot: int, size: int) -> bool:
        """Let the segment of a slot hold some bytes; False where shared memory is full."""
        if slot in self._segments and self._segments[slot].size >= size:
            return True
        for unused in (slot, *self._free):
            if unused == slot or self._bytes() + size > self._most_bytes:
                self._remove(unused)
        try:
            self._segments[slot] = _make_segment(self._names[slot], size)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.ENOMEM):
                raise
            return False
        return True

    def _remove(self, slot: int) -> None:
        segment = self._segments.pop(slot, None)
        if segment is not None:
            segment.close()
            segment.unlink()


def unpack(parcel: Parcel) -> Any:
    """Copy a value out of shared memory."""
    if not parcel.segment:
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
            _remove_segment(name)


def _remove_segment(name: str) -> None:
    try:
        segment = SharedMemory(name)
    except FileNotFoundError:
        return
    except ValueError:  # its maker was killed before it had a size
        (_FOLDER / name).unlink(missing_ok=True)
        return
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
