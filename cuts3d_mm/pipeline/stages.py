"""The stages of labelling an image: read, extract, the labeller's own, encode.

`Extraction` holds the networks and works in batches; `finish_image` needs none and works
image by image, in any process. Executors decide where both run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from cuts3d_mm.files.remote import Place
from cuts3d_mm.images.reading import ImageFailure, NamedImage, read_named_image
from cuts3d_mm.labellers.generator import Stage
from cuts3d_mm.labels.record import ImageRecord, encode_instance
from cuts3d_mm.labels.store import OUT_OF_MEMORY
from cuts3d_mm.pipeline.profile import Stopwatch, size_of
from cuts3d_mm.pipeline.read_ahead import ReadAhead
from cuts3d_mm.pipeline.work_order import LabelledInstance

_MOST_PIXEL_BYTES = 2**31  # of a batch, and of what is read ahead: 7 images of 100 megapixels
# What torch says in a plain RuntimeError: on MPS, on the CPU, in cuDNN and cuBLAS.
_SIGNS_OF_NO_MEMORY = ('out of memory', "can't allocate memory", '_ALLOC_FAILED')


@dataclass(frozen=True)
class ExtractedImage:
    """What the networks made of one image, or why they made nothing."""

    name: str
    image_hw: tuple[int, int]  # (0, 0) for a failure
    content: Any  # of the labeller's first stage
    failure: str | None = None


Read = NamedImage | ExtractedImage  # an image, or why it cannot be read


class Extraction:
    """Reads images and runs the networks on them.

    Args:
        labeller: on its device. It has `extract` and `stages`, or only `predict_batch`, which
            then does all of its work.
        root: image folder.
        batch_size: images that go through the networks together; fewer of very large ones.
        watch: measures the stages.
        readers: threads that read images while the networks run; 0: none.
    """

    def __init__(
        self, labeller: Any, root: Place, batch_size: int, watch: Stopwatch, readers: int = 0
    ) -> None:
        if batch_size < 1:
            raise ValueError(f'batch_size must be at least 1, got {batch_size}')
        has_stages = hasattr(labeller, 'extract')
        self._extract: Callable[[Sequence[NamedImage]], Sequence[Any]] = (
            labeller.extract if has_stages else labeller.predict_batch
        )
        self.stages: tuple[Stage, ...] = labeller.stages if has_stages else ()
        self._root, self._batch_size, self._watch = root, batch_size, watch
        self._readers = readers
        self._pool = ThreadPoolExecutor(readers) if readers else None
        self.was_halved = False  # whether a batch did not fit into memory

    def run(self, names: Sequence[str]) -> Iterator[list[ExtractedImage]]:
        """Extract the images of one shard, batch by batch; a batch never crosses a shard."""
        self.was_halved = False
        for batch in _batches(self._read_all(names), self._batch_size):
            good = [image for image in batch if isinstance(image, NamedImage)]
            extracted = iter(self._extract_batch(good))
            yield [next(extracted) if isinstance(image, NamedImage) else image for image in batch]

    def _read_all(self, names: Sequence[str]) -> Iterator[Read]:
        if self._pool is None:
            yield from map(self._read, names)
            return
        most, most_bytes = 2 * self._batch_size, _MOST_PIXEL_BYTES
        yield from ReadAhead(self._read, names, self._pool, self._readers, most, most_bytes)

    def _read(self, name: str) -> Read:
        with self._watch.measure('read') as work:
            try:
                image = NamedImage(name, read_named_image(self._root, name))
            except ImageFailure as failure:
                return _failed(name, str(failure))
            work.hands_on(image.pixels)
            return image

    def _extract_batch(self, images: list[NamedImage]) -> list[ExtractedImage]:
        if not images:
            return []
        try:
            with self._watch.measure('extract', len(images)) as work:
                found = self._extract(images)
                work.hands_on(found)
        except ImageFailure as failure:
            reason = str(failure) or type(failure).__name__
        except (MemoryError, RuntimeError) as failure:
            reason = require_out_of_memory(failure)
            self.was_halved |= len(images) > 1
        else:
            return [_extracted(*pair) for pair in zip(images, found, strict=True)]
        # Outside of the handler: there the traceback would hold the memory of the failed batch.
        if len(images) == 1:
            return [_failed(images[0].name, reason)]
        half = len(images) // 2
        return self._extract_batch(images[:half]) + self._extract_batch(images[half:])


def _batches(images: Iterable[Read], most: int) -> Iterator[list[Read]]:
    """Batches of images in their order, smaller ones where the images are very large."""
    batch: list[Read] = []
    num_bytes = 0
    for image in images:
        image_bytes = size_of(image)
        if batch and num_bytes + image_bytes > _MOST_PIXEL_BYTES:
            yield batch
            batch, num_bytes = [], 0
        batch.append(image)
        num_bytes += image_bytes
        if len(batch) == most:
            yield batch
            batch, num_bytes = [], 0
    if batch:
        yield batch


def finish_image(image: ExtractedImage, stages: Sequence[Stage], watch: Stopwatch) -> ImageRecord:
    """Lead an image through the stages that follow the networks, and encode its instances."""
    if image.failure is not None:
        return ImageRecord(image.name, (0, 0), failure=image.failure)
    content = image.content
    try:
        for stage in stages:
            with watch.measure(stage.name) as work:
                content = stage.run(content)
                work.hands_on(content)
        with watch.measure('encode') as work:
            record = ImageRecord(image.name, image.image_hw, _encoded(content))
            work.hands_on(record)
            return record
    except ImageFailure as failure:
        return _record_of_failure(image.name, str(failure) or type(failure).__name__)
    except MemoryError as failure:
        return _record_of_failure(image.name, require_out_of_memory(failure))


def require_out_of_memory(error: Exception) -> str:
    """Say in one line that memory ran out, on a device or on the host; raise any other error."""
    if not isinstance(error, MemoryError) and not any(
        words in str(error) for words in _SIGNS_OF_NO_MEMORY
    ):
        raise error
    return f'{OUT_OF_MEMORY}: {str(error).split(chr(10))[0]}'.rstrip(': ')


def _encoded(instances: Iterable[LabelledInstance]) -> tuple[Any, ...]:
    return tuple(encode_instance(i.mask, i.confidence, i.score) for i in instances)


def _extracted(image: NamedImage, content: Any) -> ExtractedImage:
    return ExtractedImage(image.name, (image.pixels.shape[0], image.pixels.shape[1]), content)


def _failed(name: str, reason: str) -> ExtractedImage:
    return ExtractedImage(name, (0, 0), None, reason)


def _record_of_failure(name: str, reason: str) -> ImageRecord:
    return ImageRecord(name, (0, 0), failure=reason)
