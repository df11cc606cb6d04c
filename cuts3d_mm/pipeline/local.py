"""Run a labelling run on this machine: in this process, in workers, or in stages fed by GPUs."""

from __future__ import annotations

import os
import pickle
import secrets
import signal
import sys
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import chain
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any, Protocol

from cuts3d_mm.files.atomic import ProcessMark
from cuts3d_mm.labellers.generator import Stage
from cuts3d_mm.labels.record import ImageRecord
from cuts3d_mm.labels.store import write_shard
from cuts3d_mm.processes import start_child

from .progress import Report, Span, Stopwatch
from .run import WorkerKilled, WorkerLost
from .work import (
    ConfiguredLabeller,
    Extraction,
    Shard,
    Worker,
    WorkOrder,
    count_images,
    finish_image,
    use_one_thread,
)

_READY = 'ready'  # for a shard; the one before is on disk
READERS = 4  # threads that decode images for a device
_EXIT_WAIT_S = 1.0  # of a process whose connection is closed
_MOST_BYTES = 2**31  # from one sender; a hundred masks of a large photo are much of it
_ALIGNMENT = 64  # bytes; of each array in a segment
_PREFIX = 'cuts3d_'  # of the names of segments
_FOLDER = Path('/dev/shm')  # where Linux keeps shared memory


class Sender(Protocol):
    """What a slot is given back to."""

    def send(self, message: Any, /) -> None:
        """Give a slot back."""


@dataclass(frozen=True)
class LocalExecutor:
    """Label shards on this machine.

    Args:
        workers: processes of one thread each, besides those of `devices`; 0: this process.
        devices: each gets a process that runs the networks there, while the workers do what
            follows. Empty: the networks run in every worker, on the device of the order.
        is_beside: the networks run in this process, which alone has them, while the workers do
            what follows.
    """

    workers: int
    devices: tuple[str, ...] = ()
    is_beside: bool = False

    def label(self, order: WorkOrder, shards: tuple[Shard, ...]) -> Generator[Report, None, None]:
        """Label shards and write them, reporting as images are done.

        Raises:
            WorkerLost: a process died.
            Exception: what ended a process, with a `WorkerTraceback` as its cause.
        """
        if not shards:
            return
        if self.workers and self.is_beside:
            yield from label_beside(order, shards, self.workers)
        elif self.workers and self.devices:
            yield from label_in_stages(order, shards, self.workers, self.devices)
        elif self.workers:
            yield from _label_in_processes(order, shards, self.workers)
        else:
            worker = Worker(order)
            for index, names in shards:
                yield from worker.label_shard(index, names)


def _label_in_processes(
    order: WorkOrder, shards: tuple[Shard, ...], workers: int
) -> Generator[Report, None, None]:
    waiting = deque(shards)
    with crew_of_processes() as crew:
        busy = [crew.start(_serve, order) for _ in range(min(workers, len(shards)))]
        while busy:
            for connection, message in crew.receive(busy):
                if isinstance(message, Report):
                    yield message
                elif waiting:
                    connection.send(waiting.popleft())
                else:
                    busy.remove(connection)


def _serve(connection: Connection, order: WorkOrder) -> None:
    """Label the shards that come, in this process."""
    with _failures_sent(connection):
        worker = Worker(order)
        while True:
            connection.send(_READY)
            index, names = connection.recv()
            for report in worker.label_shard(index, names):
                connection.send(report)


@dataclass
class _OpenShard:
    """A shard that is not whole yet."""

    records: list[ImageRecord | None]
    missing: int
    was_halved: bool = False  # a batch did not fit into memory


def label_in_stages(
    order: WorkOrder, shards: tuple[Shard, ...], workers: int, devices: Sequence[str]
) -> Generator[Report, None, None]:
    """Label shards and write them, reporting as images are done.

    Raises:
        WorkerLost: a process died.
        Exception: what ended a process, with a `WorkerTraceback` as its cause.
    """
    used = devices[: len(shards)]
    # While a batch is on a device, the results of the one before keep the workers busy.
    slots = [segment_names(order.batch_size + -(-workers // len(used))) for _ in used]
    with removed_at_end(slots), crew_of_processes() as crew:
        sources = [
            crew.start(serve_device, replace(order, device=device), names)
            for device, names in zip(used, slots, strict=True)
        ]
        free = [crew.start(serve_worker, order) for _ in range(workers)]
        yield from _Router(crew, shards, sources, free).run()


@dataclass
class _Router:
    """Leads shards to devices and images to workers."""

    crew: Crew
    shards: tuple[Shard, ...]
    sources: list[Connection]
    workers: list[Connection]
    waiting: deque[Shard] = field(init=False)
    open: dict[int, _OpenShard] = field(default_factory=dict)
    tasks: deque[Task] = field(default_factory=deque)
    writes: deque[Write] = field(default_factory=deque)
    free: deque[Connection] = field(default_factory=deque)
    busy: dict[Connection, Task | Write] = field(default_factory=dict)
    stages: tuple[Stage, ...] = ()
    unwritten: int = field(init=False)

    def __post_init__(self) -> None:
        self.waiting = deque(self.shards)
        self.unwritten = len(self.shards)

    def run(self) -> Generator[Report, None, None]:
        """Route messages until all shards are on disk."""
        while self.unwritten:
            yield from self.step([*self.sources, *self.workers])

    def step(self, connections: list[Connection]) -> Generator[Report, None, None]:
        """Wait for messages, and route those that are there."""
        for connection, message in self.crew.receive(connections):
            if isinstance(message, Request):
                self._send_shard(connection, message)
                yield Report(spans=message.spans)
            elif isinstance(message, Task):
                self.tasks.append(replace(message, device=connection))
            elif isinstance(message, Copied):
                self._release_slot(connection)
            else:
                self.unwritten -= isinstance(self.busy.get(connection), Write)
                yield self._take_back(connection, message)
        self.hand_out()

    def _send_shard(self, source: Connection, request: Request) -> None:
        self.stages = request.stages
        _send(source, self.open_shard() if self.waiting else None)

    def opened_shards(self) -> Iterator[Shard]:
        """Open one shard after the other."""
        while self.waiting:
            yield self.open_shard()

    def open_shard(self) -> Shard:
        """Take the next shard, whose images are to come."""
        index, names = self.waiting.popleft()
        self.open[index] = _OpenShard([None] * len(names), len(names))
        return index, names

    def _release_slot(self, worker: Connection) -> None:
        task = self.busy[worker]
        if isinstance(task, Task) and task.device is not None:
            _send(task.device, task.image.slot)

    def _take_back(self, worker: Connection, done: Done) -> Report:
        """Free a worker, and take note of the image that it has done."""
        task = self.busy.pop(worker, None)
        self.free.append(worker)
        if not isinstance(task, Task) or done.record is None:
            return Report(spans=done.spans)
        shard = self.open[task.shard]
        shard.records[task.position] = done.record
        shard.missing -= 1
        shard.was_halved |= task.was_halved
        if not shard.missing:
            records = tuple(record for record in shard.records if record is not None)
            self.writes.append(Write(task.shard, records, shard.was_halved))
            del self.open[task.shard]
        return Report(count_images([done.record]), done.spans)

    def hand_out(self) -> None:
        """Give work to the workers that are free."""
        while self.free and (self.writes or self.tasks):
            worker = self.free.popleft()
            work = self.writes.popleft() if self.writes else self.tasks.popleft()
            self.busy[worker] = work
            without = replace(work, device=None) if isinstance(work, Task) else work
            _send(worker, (without, self.stages))


class _FreedSlots:
    """Slots of this process that workers have copied, in place of a connection to a device."""

    def __init__(self) -> None:
        self.slots: deque[int] = deque()

    def send(self, slot: int) -> None:
        """Take note of a slot."""
        self.slots.append(slot)


def label_beside(
    order: WorkOrder, shards: tuple[Shard, ...], workers: int
) -> Generator[Report, None, None]:
    """Label shards by networks of this process, while workers do what follows.

    So labels a detector in training, which no other process has.

    Raises:
        WorkerLost: a process died.
        Exception: what ended a process, with a `WorkerTraceback` as its cause.
    """
    names, freed = segment_names(order.batch_size + workers), _FreedSlots()
    with removed_at_end([names]), crew_of_processes() as crew:
        light = replace(order, labeller=ConfiguredLabeller({}))  # workers need no networks
        helpers = [crew.start(serve_worker, light) for _ in range(workers)]
        router, reports = _Router(crew, shards, [], helpers), list[Report]()

        def wait_for_free() -> int:
            while not freed.slots:
                reports.extend(router.step(helpers))
            return freed.slots.popleft()

        watch, memory = Stopwatch(), Slots(names, wait_for_free)
        labeller, readers = order.labeller.build(order.device), min(READERS, order.batch_size)
        extraction = Extraction(labeller, order.root, order.batch_size, watch, readers)
        router.stages = extraction.stages
        try:
            for index, position, image in extraction.run(router.opened_shards()):
                parcel = memory.pack(image)
                router.tasks.append(Task(index, position, parcel, image.was_halved, freed))
                router.hand_out()
                if said := [one for one in helpers if one.poll()]:
                    reports.extend(router.step(said))
                while freed.slots:
                    memory.release(freed.slots.popleft())
                yield from (*reports, Report(spans=watch.take()))
                reports.clear()
            yield from router.run()
        finally:
            memory.close()


def _send(connection: Sender, message: Any) -> None:
    """Send to a process; if it is gone, what it has said last tells why."""
    with suppress(OSError):
        connection.send(message)


@dataclass(frozen=True)
class Request:
    """A device is ready for another shard."""

    stages: tuple[Stage, ...]
    spans: tuple[Span, ...]


@dataclass(frozen=True)
class Task:
    """An image for the stages that follow the networks."""

    shard: int
    position: int  # in the shard
    image: Parcel
    was_halved: bool  # a batch of the shard did not fit into memory
    device: Sender | None = None  # whose slot the parcel lies in


@dataclass(frozen=True)
class Write:
    """A whole shard for the disk."""

    shard: int
    records: tuple[ImageRecord, ...]
    was_halved: bool


@dataclass(frozen=True)
class Copied:
    """A worker has copied its task; the slot is free."""


@dataclass(frozen=True)
class Done:
    """A worker is free again, at first without having done anything."""

    spans: tuple[Span, ...] = ()
    record: ImageRecord | None = None


def serve_device(connection: Connection, order: WorkOrder, slots: Sequence[str]) -> None:
    """Run the networks on the shards that come, in this process.

    Args:
        connection: to the router.
        order: its device is that of this process.
        slots: names of the shared memory that results lie in until a worker takes them.
    """
    with _failures_sent(connection):
        warnings.filterwarnings('ignore', module='PIL')  # files are read in threads
        watch = Stopwatch()
        labeller = order.build_labeller()
        _use_device(order.device)
        extraction = extraction_on_device(labeller, order, watch)
        memory = Slots(slots, connection.recv)
        shards = _shards_of(connection, memory, extraction.stages, watch)
        for index, position, image in extraction.run(shards):
            parcel = memory.pack(image)
            connection.send(Task(index, position, parcel, image.was_halved))
        connection.send(Request(extraction.stages, watch.take()))
        while True:
            connection.recv()  # until the run ends, and this process with it


def extraction_on_device(labeller: Any, order: WorkOrder, watch: Stopwatch) -> Extraction:
    """Let threads read for a device, and give a GPU a batch before the last one is waited for."""
    readers = min(READERS, order.batch_size)
    in_flight = 1 if order.device.partition(':')[0] == 'cpu' else 2
    return Extraction(labeller, order.root, order.batch_size, watch, readers, in_flight)


def _shards_of(
    connection: Connection, memory: Slots, stages: tuple[Stage, ...], watch: Stopwatch
) -> Iterator[Shard]:
    """Ask for one shard after the other until none is left."""
    while True:
        connection.send(Request(stages, watch.take()))
        shard = _next_shard(connection, memory)
        if shard is None:
            return
        yield shard


def _use_device(name: str) -> None:
    """Make a GPU the current one, so that nothing of this process lands on the first GPU."""
    torch = sys.modules.get('torch')
    if torch is not None and name.startswith('cuda:'):
        torch.cuda.set_device(torch.device(name))


def _next_shard(connection: Connection, memory: Slots) -> Any:
    """Wait for a shard, or None where none is left; slots may be given back before it."""
    while True:
        message = connection.recv()
        if not isinstance(message, int):
            return message
        memory.release(message)


def serve_worker(connection: Connection, order: WorkOrder) -> None:
    """Finish the images and write the shards that come, in this process."""
    with _failures_sent(connection):
        order.labeller.prepare()
        use_one_thread()
        watch = Stopwatch()
        connection.send(Done())
        while True:
            work, stages = connection.recv()
            if isinstance(work, Write):
                with watch.measure('write', len(work.records)):
                    write_shard(order.out, work.shard, work.records, work.was_halved, order.mark)
                connection.send(Done(watch.take()))
                continue
            image = unpack(work.image)
            connection.send(Copied())
            record = finish_image(image, stages, watch)
            connection.send(Done(watch.take(), record))


class WorkerTraceback(Exception):
    """Where in a worker process an exception came from, as text."""


@dataclass(frozen=True)
class _Failure:
    """An exception on its way to the main process."""

    error: bytes  # pickled
    trace: str


@contextmanager
def _failures_sent(connection: Connection) -> Iterator[None]:
    """Send an exception to the main process, and end quietly."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  the main process raises it
        text = ''.join(traceback.format_exception(error))
        with suppress(OSError):  # the main process is gone
            connection.send(_Failure(_pickled(error), text))


@dataclass
class Crew:
    """Processes of this run, by the connection to each."""

    processes: dict[Connection, BaseProcess] = field(default_factory=dict)

    def start(self, serve: Callable[..., None], *payload: Any) -> Connection:
        """Start `serve(connection, *payload)` in a process of its own."""
        process, connection = start_child(serve, *payload)
        self.processes[connection] = process
        return connection

    def receive(self, connections: list[Connection]) -> Iterator[tuple[Connection, Any]]:
        """Wait for messages, one at most from each connection.

        Raises:
            WorkerLost: a process died.
            Exception: what ended a process, with a `WorkerTraceback` as its cause.
        """
        for connection in wait(connections):
            if isinstance(connection, Connection):  # as all of them are
                yield connection, self._message_of(connection)

    def _message_of(self, connection: Connection) -> Any:
        process = self.processes[connection]
        try:
            message = connection.recv()
        except (EOFError, OSError) as error:
            process.join(_EXIT_WAIT_S)
            raise _describe_death(process.exitcode) from error
        if isinstance(message, _Failure):
            raise pickle.loads(message.error) from WorkerTraceback(f'\n{message.trace}')
        return message


@contextmanager
def crew_of_processes() -> Iterator[Crew]:
    """Kill the processes at the end, finished or not: their work is done or does not count."""
    crew = Crew()
    try:
        yield crew
    finally:
        for process in crew.processes.values():
            process.kill()
        for process in crew.processes.values():
            process.join()


def _describe_death(exit_code: int | None) -> WorkerLost:
    if exit_code is not None and exit_code > 0:  # not by a signal: it has printed its error
        return WorkerLost(
            f'a worker process died with exit code {exit_code}; its error is above. Run the same '
            'command again to resume'
        )
    try:
        name = signal.Signals(-(exit_code or 0)).name
    except ValueError:
        name = f'exit code {exit_code}'
    reason = f'a worker process died of {name}'
    if name == 'SIGKILL':
        return WorkerKilled(
            f'{reason}, most likely out of memory',
            'run the same command again to resume, with fewer --workers or a smaller --batch-size',
        )
    return WorkerKilled(
        reason,
        'run the same command again to resume; if it dies again, an image may crash a library: '
        '--workers 0 shows which, --exclude leaves it out',
    )


def _pickled(error: Exception) -> bytes:
    """Pickle an exception, or what it says where that cannot be undone."""
    try:
        pickled = pickle.dumps(error)
        pickle.loads(pickled)
    except (TypeError, AttributeError, ValueError, pickle.PickleError):
        return pickle.dumps(RuntimeError(f'{type(error).__name__}: {error}'))
    return pickled


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

        Where no shared memory can be had, the arrays go with the parcel, which is slower.
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

    def close(self) -> None:
        """Remove the shared memory; nothing is on its way any more."""
        for slot in list(self._segments):
            self._remove(slot)

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
        """Let the segment of a slot hold some bytes; False where there is no shared memory."""
        if slot in self._segments and self._segments[slot].size >= size:
            return True
        for unused in (slot, *self._free):
            if unused == slot or self._bytes() + size > self._most_bytes:
                self._remove(unused)
        try:
            self._segments[slot] = _make_segment(self._names[slot], size)
        except OSError:
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
    token = secrets.token_hex(5)  # macOS allows 31 characters, and has no folder of segments
    mark = f'{ProcessMark.of_this_process()}_' if _FOLDER.is_dir() else ''
    return tuple(f'{_PREFIX}{mark}{token}_{index}' for index in range(count))


def _remove_segments_of_the_dead() -> None:
    """Remove the shared memory of runs that were killed; it would stay until the next boot."""
    for path in _FOLDER.glob(f'{_PREFIX}*_*_*'):
        mark = ProcessMark.parse(path.name.removeprefix(_PREFIX).partition('_')[0])
        if mark is not None and mark.is_dead():
            with suppress(OSError):  # that of another user, or gone
                path.unlink()


@contextmanager
def removed_at_end(senders: Iterable[Sequence[str]]) -> Iterator[None]:
    """Remove the shared memory of senders, which have ended by then, and of runs that died."""
    _remove_segments_of_the_dead()
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
