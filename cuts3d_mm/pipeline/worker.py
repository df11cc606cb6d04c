"""Label one shard of images after another, in one process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from cuts3d_mm.images.reading import ImageFailure, NamedImage, read_named_image
from cuts3d_mm.labels.record import ImageRecord, encode_instance
from cuts3d_mm.labels.shard import Counts, write_shard
from cuts3d_mm.pipeline.work_order import LabelledInstance, WorkOrder

# What torch says in a plain RuntimeError: on MPS, on the CPU, in cuDNN and cuBLAS.
_OUT_OF_MEMORY = ('out of memory', "can't allocate memory", '_ALLOC_FAILED')


class Worker:
    """The labeller of a run in this process, and where the labels go."""

    def __init__(self, order: WorkOrder) -> None:
        self.order = order
        self.labeller = order.labeller.build(order.device)

    def label_shard(self, index: int, names: Sequence[str]) -> Iterator[Counts]:
        """Label the images of one shard, yielding counts as they are done, and write it."""
        records: list[ImageRecord] = []
        remaining = iter(names)
        while batch := list(islice(remaining, self.order.batch_size)):
            done = self._label_batch(batch)
            records += done
            yield Counts(
                len(done),
                sum(len(record.instances) for record in done),
                sum(record.failure is not None for record in done),
            )
        write_shard(self.order.out, index, records)

    def _label_batch(self, names: list[str]) -> list[ImageRecord]:
        images: dict[str, NamedImage] = {}
        records: dict[str, ImageRecord] = {}
        for name in names:
            try:
                images[name] = NamedImage(name, read_named_image(self.order.root, name))
            except ImageFailure as failure:
                records[name] = _failed(name, str(failure))
        for record in self._predict(list(images.values())):
            records[record.name] = record
        return [records[name] for name in names]

    def _predict(self, images: list[NamedImage]) -> list[ImageRecord]:
        if not images:
            return []
        try:
            found = self.labeller.predict_batch(images)
        except ImageFailure as failure:
            reason = str(failure) or type(failure).__name__
        except (MemoryError, RuntimeError) as failure:
            if not _is_out_of_memory(failure):
                raise
            reason = f'out of memory: {str(failure).split(chr(10))[0]}'.rstrip(': ')
        else:
            return [_labelled(*pair) for pair in zip(images, found, strict=True)]
        # Outside of the handler: there the traceback would hold the memory of the failed batch.
        if len(images) == 1:
            return [_failed(images[0].name, reason)]
        half = len(images) // 2
        return self._predict(images[:half]) + self._predict(images[half:])


def _labelled(image: NamedImage, instances: Sequence[LabelledInstance]) -> ImageRecord:
    return ImageRecord(
        image.name,
        (image.pixels.shape[0], image.pixels.shape[1]),
        tuple(encode_instance(i.mask, i.confidence, i.score) for i in instances),
    )


def _is_out_of_memory(error: Exception) -> bool:
    """Tell whether an error means out of memory, on a device or on the host."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in _OUT_OF_MEMORY)


def _failed(name: str, reason: str) -> ImageRecord:
    return ImageRecord(name, (0, 0), failure=reason)
