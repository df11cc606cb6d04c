"""Label one shard of images after another, all stages in one process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cuts3d_mm.labels.record import ImageRecord
from cuts3d_mm.labels.store import Counts, write_shard
from cuts3d_mm.pipeline.profile import Report, Stopwatch
from cuts3d_mm.pipeline.stages import Extraction, finish_image
from cuts3d_mm.pipeline.work_order import WorkOrder


class Worker:
    """The labeller of a run in this process, and where the labels go."""

    def __init__(self, order: WorkOrder) -> None:
        self._out, self._watch = order.out, Stopwatch()
        labeller = order.labeller.build(order.device)
        self._extraction = Extraction(labeller, order.root, order.batch_size, self._watch)

    def label_shard(self, index: int, names: Sequence[str]) -> Iterator[Report]:
        """Label the images of one shard, reporting them as they are done, and write it."""
        records: list[ImageRecord] = []
        for batch in self._extraction.run(names):
            for image in batch:
                record = finish_image(image, self._extraction.stages, self._watch)
                records.append(record)
                yield Report(count_images([record]), self._watch.take())
        with self._watch.measure('write', len(records)):
            write_shard(self._out, index, records, self._extraction.was_halved)
        yield Report(spans=self._watch.take())


def count_images(records: Sequence[ImageRecord]) -> Counts:
    """Count images, instances and failures."""
    return Counts(
        len(records),
        sum(len(record.instances) for record in records),
        sum(record.failure is not None for record in records),
    )
