"""Do the work of a shard: what a worker process is told, and the stages of an image."""

from __future__ import annotations

import sys
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from queue import SimpleQueue
from threading import Lock
from typing import Any, Generic, Protocol, TypeVar

import cv2
from mmengine.utils import import_modules_from_strings
from threadpoolctl import threadpool_limits

from cuts3d_mm.files.remote import Place
from cuts3d_mm.images.reading import (
    ImageFailure,
    NamedImage,
    digest_file,
    open_named_image,
    read_image,
)
from cuts3d_mm.labellers.generator import Stage
from cuts3d_mm.labellers.networks import choose_device
from cuts3d_mm.labellers.registry import LABELLERS, resolve_config
from cuts3d_mm.labels.record import ImageRecord, encode_instance
from cuts3d_mm.labels.store import OUT_OF_MEMORY, Counts, RunMark, write_shard

from .progress import Report, Stopwatch, size_of

Shard = tuple[int, Sequence[str]]  # index, image names
Task = Callable[[Stopwatch], Any]  # image or shard that needs no network any more
Collect = Callable[[], Sequence[Any]]  # waits for a batch, and returns what its images became
_MOST_PIXEL_BYTES = 2**31  # of a batch, and of what is read ahead: 7 images of 100 megapixels
READERS = 4  # threads that decode images for a device
_BATCHES_SORTED = 4  # batches among which images are sorted by shape
# What torch says in a plain RuntimeError: on MPS, on the CPU, in cuDNN and cuBLAS.
_SIGNS_OF_NO_MEMORY = ('out of memory', "can't allocate memory", '_ALLOC_FAILED')
T = TypeVar('T')


class ImageLabeller(Protocol):
    """What finds the instances of images: a registered model.

    One that also has `extract` and `stages`, as `PseudoLabelGenerator` has, lets a run do
    the work that needs no network in other processes.
    """

    def predict_batch(self, images: Sequence[NamedImage]) -> Sequence[Sequence[Any]]:
        """Label images; raises ImageFailure where one cannot be labelled.

        Returns:
            Instances of each image, which have a mask, (H, W) bool; a score in [0, 1]; and a
            confidence, (h, w) on a grid that covers the image, in [0, 1], or None: all is certain.
        """


@dataclass(frozen=True)
class ConfiguredLabeller:
    """A labeller that each process builds from its config.

    Args:
        custom_imports: MMEngine's option of that name, for the modules that register its parts.
    """

    config: dict[str, Any]
    custom_imports: dict[str, Any] | None = None

    @cached_property
    def identity(self) -> dict[str, Any]:
        """The config with all defaults, in plain JSON values."""
        resolved: dict[str, Any] = resolve_config(self.config)
        return resolved

    def build(self, device: str) -> ImageLabeller:
        """Build it, and give this process one thread, so that sums are taken in one order."""
        self.prepare()
        labeller: ImageLabeller = LABELLERS.build(self.config).to(choose_device(device))
        use_one_thread()  # when what it needs is imported
        return labeller

    def prepare(self) -> None:
        """Import the modules that register parts."""
        if self.custom_imports:
            import_modules_from_strings(**self.custom_imports)


@dataclass(frozen=True)
class BuiltLabeller:
    """A labeller that exists already, on its device, such as a detector in training."""

    labeller: ImageLabeller
    identity: dict[str, Any]

    def build(self, device: str) -> ImageLabeller:
        """Return it as it is."""
        return self.labeller

    def prepare(self) -> None:
        """Do nothing: its modules are imported with its stages."""


LabellerSource = ConfiguredLabeller | BuiltLabeller  # either can be sent to another process


@dataclass(frozen=True)
class WorkOrder:
    """What all workers of a run share."""

    labeller: LabellerSource
    root: Place  # image folder
    out: Place  # label store
    batch_size: int  # images that go through the networks together
    device: str = 'cpu'  # of the networks
    mark: RunMark | None = None  # None: the run goes on with a store that has no marks
    is_cut_there: bool = False  # whether images are cut on the device of the networks

    @property
    def extraction(self) -> dict[str, Any]:
        """How the networks run, which changes the last bits of what they compute."""
        found = {'device': self.device.partition(':')[0], 'batch_size': self.batch_size}
        return {**found, 'cut_on': 'device'} if self.is_cut_there else found

    def build_labeller(self) -> Any:
        """Build the labeller on its device."""
        labeller: Any = self.labeller.build(self.device)
        if self.is_cut_there:
            labeller.cut_on(self.device)
        return labeller


class TaskRunner(Protocol):
    """What does tasks in other processes."""

    count: int  # tasks at a time

    def submit(self, task: Task) -> Future[Any]:
        """Have a task done: a future of its value and spans, or of what it raised."""


@dataclass
class _OpenShard:
    """A shard that is not whole yet."""

    records: list[Any]  # of ImageRecord; None for images that are not done
    was_halved: bool = False  # a batch did not fit into memory


class Worker:
    """The networks of a run in this process.

    Args:
        helpers: do what follows the networks, while images are read and extracted here; without
            them this process does all, image by image.
    """

    def __init__(self, order: WorkOrder, helpers: TaskRunner | None = None) -> None:
        self._order, self._watch = order, Stopwatch()
        labeller = order.build_labeller()
        if helpers is None:
            self._extraction = Extraction(labeller, order.root, order.batch_size, self._watch)
            self._most_waiting = 0
        else:
            self._extraction = extraction_on_device(labeller, order, self._watch)
            # While a batch is on a device, the results of the one before keep the helpers busy.
            self._most_waiting = order.batch_size + helpers.count
        self._helpers = helpers
        self._open: dict[int, _OpenShard] = {}
        self._waiting = self._waiting_bytes = 0
        self._done: SimpleQueue[tuple[int, int | None, int, Future[Any]]] = SimpleQueue()

    def label(self, shards: Iterable[Shard]) -> Iterator[Report]:
        """Label shards and write them, reporting images as they are done.

        Raises:
            Exception: what the labeller or a task raised.
        """
        for index, position, image in self._extraction.run(self._opened(shards)):
            self._open[index].was_halved |= image.was_halved
            task = partial(finish_image, image, self._extraction.stages)
            self._submit(index, position, size_of(image.content), task)
            yield from self._finished(self._most_waiting)
        yield from self._finished(0)

    def _opened(self, shards: Iterable[Shard]) -> Iterator[Shard]:
        for index, names in shards:
            self._open[index] = _OpenShard([None] * len(names))
            yield index, names

    def _submit(self, index: int, position: int | None, num_bytes: int, task: Task) -> None:
        self._waiting += 1
        self._waiting_bytes += num_bytes
        if self._helpers is not None:
            done = self._helpers.submit(task)
        else:
            done = Future()
            done.set_result((task(self._watch), ()))
        done.add_done_callback(lambda done: self._done.put((index, position, num_bytes, done)))

    def _finished(self, most: int) -> Iterator[Report]:
        """Take back what is done, and wait until no more is left than `most`."""
        while (
            self._waiting > most
            or self._waiting_bytes > _MOST_PIXEL_BYTES
            or not self._done.empty()
        ):
            index, position, num_bytes, done = self._done.get()
            self._waiting -= 1
            self._waiting_bytes -= num_bytes
            value, spans = done.result()
            if position is not None:
                self._take_in(index, position, value)
            counts = Counts() if position is None else count_images([value])
            yield Report(counts, (*spans, *self._watch.take()))

    def _take_in(self, index: int, position: int, record: ImageRecord) -> None:
        """Keep the record of an image; write the shard if it was the last one."""
        shard = self._open[index]
        shard.records[position] = record
        if any(one is None for one in shard.records):
            return
        del self._open[index]
        arguments = self._order.out, index, shard.records, shard.was_halved, self._order.mark
        self._submit(index, None, 0, partial(_write, arguments))


def _write(arguments: tuple[Any, ...], watch: Stopwatch) -> None:
    with watch.measure('write', len(arguments[2])):
        write_shard(*arguments)


def extraction_on_device(labeller: Any, order: WorkOrder, watch: Stopwatch) -> Extraction:
    """Let threads read for a device, and give a GPU a batch before the last one is waited for."""
    warnings.filterwarnings('ignore', module='PIL')  # a warning changes state of all threads
    readers = min(READERS, order.batch_size)
    in_flight = 1 if order.device.partition(':')[0] == 'cpu' else 2
    return Extraction(labeller, order.root, order.batch_size, watch, readers, in_flight)


def count_images(records: Sequence[ImageRecord]) -> Counts:
    """Count images, instances and failures."""
    return Counts(
        len(records),
        sum(len(record.instances) for record in records),
        sum(record.failure is not None for record in records),
    )


@dataclass(frozen=True)
class ExtractedImage:
    """What the networks made of one image, or why they made nothing."""

    name: str
    image_hw: tuple[int, int] = (0, 0)  # (0, 0) for a failure
    content: Any = None  # of the labeller's first stage
    failure: str | None = None
    digest: bytes | None = None  # of the file
    was_halved: bool = False  # its batch did not fit into memory


Read = NamedImage | ExtractedImage  # an image, or why it cannot be read
Batch = list[tuple[int, Read]]  # images with their positions in the shard


class Extraction:
    """Reads images and runs the networks on them.

    Args:
        labeller: on its device. It has `extract` and `stages`, or only `predict_batch`, which
            then does all of its work. With `prepare` it does what needs no network, image by
            image, in the threads that read. With `launch` a GPU is not waited for, see
            `PseudoLabelGenerator`.
        batch_size: images that go through the networks together; fewer of very large ones.
        readers: threads that read images while the networks run; 0: none.
        in_flight: batches that are given to a GPU before the first of them is waited for.
    """

    def __init__(
        self,
        labeller: Any,
        root: Place,
        batch_size: int,
        watch: Stopwatch,
        readers: int = 0,
        in_flight: int = 1,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f'batch_size must be at least 1, got {batch_size}')
        has_stages = hasattr(labeller, 'extract')
        self._extract: Callable[[Sequence[NamedImage]], Sequence[Any]] = (
            labeller.extract if has_stages else labeller.predict_batch
        )
        self._prepare: Any = getattr(labeller, 'prepare', None)
        self._launch: Any = getattr(labeller, 'launch', None)
        self._in_flight = in_flight if self._launch is not None else 1
        self.stages: tuple[Stage, ...] = labeller.stages if has_stages else ()
        self._root, self._batch_size, self._watch = root, batch_size, watch
        self._readers = readers
        self._pool = ThreadPoolExecutor(readers) if readers else None

    def run(self, shards: Iterable[Shard]) -> Iterator[tuple[int, int, ExtractedImage]]:
        """Extract the images of shards; a batch never crosses a shard.

        With readers the next shard is asked for, and its images are read, while this one is
        extracted.

        Yields:
            Number of the shard, position in it, and the image; images of a shard come in any
            order.
        """
        started: deque[tuple[int, Batch, list[Collect]]] = deque()
        for index, batch in self._batches_of(shards):
            started.append((index, batch, self._started(batch)))
            if len(started) == self._in_flight:
                yield from self._finished(*started.popleft())
        while started:
            yield from self._finished(*started.popleft())

    def _batches_of(self, shards: Iterable[Shard]) -> Iterator[tuple[int, Batch]]:
        reading = ((index, self._read_all(names)) for index, names in shards)
        shard = next(reading, None)
        while shard is not None:
            following = next(reading, None) if self._pool is not None else None
            for batch in _batches(shard[1], self._batch_size):
                yield shard[0], batch
            shard = following or next(reading, None)

    def _read_all(self, names: Sequence[str]) -> Iterable[Read]:
        if self._pool is None:
            return map(self._read, names)
        most, most_bytes = 2 * self._batch_size, _MOST_PIXEL_BYTES
        return ReadAhead(self._read, names, self._pool, self._readers, most, most_bytes).started()

    def _read(self, name: str) -> Read:
        with self._watch.measure('read') as work:
            digest = None
            try:
                with open_named_image(self._root, name) as file:
                    digest = digest_file(file)
                    image = NamedImage(name, read_image(file), digest=digest)
                if self._prepare is not None:
                    image = self._prepare(image)
            except Exception as error:  # noqa: BLE001  raised again, unless it is of the image
                return ExtractedImage(name, failure=_reason(error, name), digest=digest)
            work.hands_on(image.pixels)
            return image

    def _started(self, batch: Batch) -> list[Collect]:
        """Give a batch to a GPU: what waits for it, or nothing where all is done at once."""
        images = _good(batch)
        if self._launch is None or self._in_flight == 1 or not images:
            return []
        try:
            with self._watch.measure('extract', 0):
                return [self._launch(images)]
        except Exception as error:  # noqa: BLE001  raised in its turn
            if _is_of_images(error):
                # Its frames would hold the memory of the failed batch.
                error = error.with_traceback(None)
            return [partial(_raise, error)]

    def _finished(
        self, index: int, batch: Batch, started: list[Collect]
    ) -> Iterator[tuple[int, int, ExtractedImage]]:
        extracted = iter(self._extract_batch(_good(batch), started))
        for position, image in batch:
            found = next(extracted) if isinstance(image, NamedImage) else image
            yield index, position, found

    def _extract_batch(
        self, images: list[NamedImage], started: list[Collect], was_halved: bool = False
    ) -> list[ExtractedImage]:
        if not images:
            return []
        try:
            with self._watch.measure('extract', len(images)) as work:
                found = started.pop()() if started else self._extract(images)
                work.hands_on(found)
        except Exception as error:  # noqa: BLE001  raised again, unless it is of the images
            reason = _reason(error, None if _is_of_images(error) else self._first_failing(images))
            was_halved |= len(images) > 1 and not isinstance(error, ImageFailure)
        else:
            return [
                ExtractedImage(
                    image.name, image.pixels.shape[:2], content, None, image.digest, was_halved
                )
                for image, content in zip(images, found, strict=True)
            ]
        # Outside of the handler: there the traceback would hold the memory of the failed batch.
        if len(images) == 1:
            name, digest = images[0].name, images[0].digest
            return [ExtractedImage(name, failure=reason, digest=digest, was_halved=was_halved)]
        half = len(images) // 2
        parts = (images[:half], images[half:])
        return [one for part in parts for one in self._extract_batch(part, [], was_halved)]

    def _first_failing(self, images: list[NamedImage]) -> str | None:
        """Name of the image that fails alone, too; None if each image passes alone."""
        if len(images) == 1:
            return images[0].name
        for image in images:
            try:
                self._extract([image])
            except Exception:  # noqa: BLE001  the error of the batch is raised
                return image.name
        return None


def _good(batch: Batch) -> list[NamedImage]:
    return [image for _, image in batch if isinstance(image, NamedImage)]


def _raise(error: Exception) -> Any:
    raise error


def _batches(images: Iterable[Read], size: int) -> Iterator[Batch]:
    """Batches of images, those of one shape together; smaller ones where images are very large.

    A depth network takes together what has one size after its preprocessing. Images are sorted by
    shape among a few batches, and come at once where a batch is one image.
    """
    most = _BATCHES_SORTED * size if size > 1 else 1
    window: Batch = []
    num_bytes = 0
    for position, image in enumerate(images):
        image_bytes = size_of(image)
        if window and num_bytes + image_bytes > _MOST_PIXEL_BYTES:
            yield from _by_shape(window, size)
            window, num_bytes = [], 0
        window.append((position, image))
        num_bytes += image_bytes
        if len(window) == most:
            yield from _by_shape(window, size)
            window, num_bytes = [], 0
    yield from _by_shape(window, size)


def _by_shape(window: Batch, size: int) -> Iterator[Batch]:
    def shape_of(entry: tuple[int, Read]) -> tuple[int, ...]:
        image = entry[1]
        return image.pixels.shape if isinstance(image, NamedImage) else ()

    ranked = sorted(window, key=shape_of)
    for start in range(0, len(ranked), size):
        yield ranked[start : start + size]


def finish_image(image: ExtractedImage, stages: Sequence[Stage], watch: Stopwatch) -> ImageRecord:
    """Lead an image through the stages that follow the networks, and encode its instances."""
    if image.failure is not None:
        return ImageRecord(image.name, (0, 0), failure=image.failure, digest=image.digest)
    content = image.content
    try:
        for stage in stages:
            with watch.measure(stage.name) as work:
                content = stage.run(content)
                work.hands_on(content)
        with watch.measure('encode') as work:
            instances = tuple(
                encode_instance(
                    *(one.mask, one.confidence, one.score),
                    *(getattr(one, name, None) for name in ('embedding', 'category')),
                )
                for one in content
            )
            record = ImageRecord(image.name, image.image_hw, instances, digest=image.digest)
            work.hands_on(record)
            return record
    except Exception as error:  # noqa: BLE001  raised again, unless it is of the image
        reason = _reason(error, image.name)
    return ImageRecord(image.name, (0, 0), failure=reason, digest=image.digest)


def _reason(error: Exception, name: str | None) -> str:
    """Say in one line why there are no labels, if an image or a lack of memory is the cause.

    Any other error is raised, with a note on the image that it came with, for the user to leave
    it out.
    """
    if isinstance(error, ImageFailure):
        return str(error) or type(error).__name__
    if _is_of_images(error):
        return f'{OUT_OF_MEMORY}: {str(error).split(chr(10))[0]}'.rstrip(': ')
    # An OSError is that of a disk or a connection: it comes with any image.
    if name is not None and not isinstance(error, OSError):
        error.add_note(f'it came with an image: --exclude can leave {name} out')
    raise error


def _is_of_images(error: Exception) -> bool:
    """Whether an error is the failure of an image, or says that memory ran out somewhere."""
    signs = (words in str(error) for words in _SIGNS_OF_NO_MEMORY)
    return isinstance(error, (ImageFailure, MemoryError)) or any(signs)


class ReadAhead(Generic[T]):
    """Reads what some names stand for, in their order.

    A finished read starts the next one, so that reading goes on while nobody asks. What is being
    read comes on top of the limit in bytes: its size is not known before.

    Args:
        read: name -> what it stands for.
        threads: reads at a time.
        most: reads that are waiting or on their way.
        most_bytes: of those that are waiting.
    """

    def __init__(
        self,
        read: Callable[[str], T],
        names: Iterable[str],
        pool: ThreadPoolExecutor,
        threads: int,
        most: int,
        most_bytes: int,
    ) -> None:
        self._read, self._remaining, self._pool = read, iter(names), pool
        self._threads, self._most, self._most_bytes = threads, most, most_bytes
        self._reads: deque[Future[T]] = deque()
        self._running = self._waiting_bytes = 0
        self._lock = Lock()

    def started(self) -> ReadAhead[T]:
        """Begin to read, before the first value is asked for."""
        self._start_more()
        return self

    def __iter__(self) -> Iterator[T]:
        try:
            self._start_more()
            while self._reads:
                value = self._reads[0].result()
                with self._lock:
                    self._reads.popleft()
                    self._waiting_bytes -= size_of(value)
                self._start_more()
                yield value
        finally:
            with self._lock:
                self._remaining = iter(())

    def _start_more(self) -> None:
        with self._lock:
            while self._has_room():
                name = next(self._remaining, None)
                if name is None:
                    return
                self._running += 1
                self._reads.append(self._pool.submit(self._read_one, name))

    def _has_room(self) -> bool:
        is_within = len(self._reads) < self._most and self._waiting_bytes < self._most_bytes
        return not self._reads or (is_within and self._running < self._threads)

    def _read_one(self, name: str) -> T:
        num_bytes = 0
        try:
            value = self._read(name)
            num_bytes = size_of(value)
            return value
        finally:
            with self._lock:
                self._running -= 1
                self._waiting_bytes += num_bytes
            self._start_more()


def use_one_thread() -> None:
    """Limit OpenCV, BLAS and, where something has imported it, torch."""
    cv2.setNumThreads(1)
    threadpool_limits(1)
    torch = sys.modules.get('torch')  # not imported for its own sake: it takes seconds
    if torch is not None:
        torch.set_num_threads(1)
