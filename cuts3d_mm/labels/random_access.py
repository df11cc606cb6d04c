"""Read single records of a label store without reading the whole store.

Parquet has to be unpacked in blocks. The first reader of a store therefore writes it out once
more, unpacked, as an Arrow file, which every process maps into memory: 1.3 million images take
no memory of the processes that read them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cuts3d_mm.arrays import Double, Index, Mask
from cuts3d_mm.files.remote import Place
from cuts3d_mm.labels.record import ImageRecord
from cuts3d_mm.labels.rows import record_from_row
from cuts3d_mm.labels.unpacking import open_unpacked


@dataclass(frozen=True)
class ImageFigures:
    """What the instances of each image are like; 0 where there is none."""

    mean_score: Double  # (N,) in [0, 1]
    largest_share: Double  # (N,) of the image that the largest instance covers, in [0, 1]


class LabelTable:
    """Random access to the records of a store or a COCO JSON.

    Args:
        path: folder of a label store, or a COCO JSON.

    Raises:
        ValueError: neither.
    """

    def __init__(self, path: Place) -> None:
        self._path = path
        self._open()

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, index: int) -> ImageRecord:
        """Read one record."""
        try:
            return self._read(index)
        except (ValueError, TypeError, pa.ArrowException):  # maybe the unpacked file is damaged
            self._open(again=True)
        try:
            return self._read(index)
        except (ValueError, TypeError, pa.ArrowException) as error:
            raise ValueError(f'{self._path}: {error}') from error

    def _read(self, index: int) -> ImageRecord:
        batch = int(np.searchsorted(self._ends, index, side='right'))
        row = index - (int(self._ends[batch - 1]) if batch else 0)
        return record_from_row(self._batch(batch).slice(row, 1).to_pylist()[0])

    def _batch(self, number: int) -> pa.RecordBatch:
        found = self._reader.get_batch(number)
        if number not in self._checked:  # a flipped bit in an offset would end the process
            found.validate(full=True)
            self._checked.add(number)
        return found

    def names(self) -> list[str]:
        """Read the names of all images, failures included."""
        batches = (self._reader.get_batch(i) for i in range(self._reader.num_record_batches))
        return [name for batch in batches for name in batch['name'].to_pylist()]

    def figures(self) -> ImageFigures:
        """Sum up the instances of each image.

        Raises:
            ValueError: the labels cannot be read.
        """
        parts = [np.empty((0, 2))]
        for number in range(self._reader.num_record_batches):
            lists = self._batch(number)['instances']
            instances, counts = lists.flatten(), np.asarray(pc.list_value_length(lists))
            owner = np.repeat(np.arange(len(counts)), counts)
            score = np.bincount(owner, instances.field('score'), len(counts))
            largest = np.zeros(len(counts))
            np.maximum.at(largest, owner, np.asarray(instances.field('area')))
            parts.append(np.stack([score / np.maximum(counts, 1), largest], axis=1))
        mean_score, largest_area = np.concatenate(parts).T
        areas = np.maximum(self.image_hw.prod(axis=1, dtype=np.int64), 1)
        return ImageFigures(mean_score, largest_area / areas)

    def __getstate__(self) -> dict[str, Any]:
        return {'_path': self._path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._path = state['_path']
        self._open()

    def _open(self, again: bool = False) -> None:
        self._reader = open_unpacked(self._path, again)
        self._checked: set[int] = set()
        sizes, counts, failed = [], [], []
        for index in range(self._reader.num_record_batches):
            batch = self._reader.get_batch(index)
            sizes.append(np.stack([batch['height'], batch['width']], axis=1))
            counts.append(np.asarray(pc.list_value_length(batch['instances'])))
            failed.append(np.asarray(batch['failure'].is_valid()))
        self._ends = np.cumsum([len(part) for part in counts], dtype=np.int64)
        self.image_hw: NDArray[np.int32] = np.concatenate([*sizes, np.empty((0, 2), np.int32)])
        self.num_instances: NDArray[np.int32] = np.concatenate([*counts, np.empty(0, np.int32)])
        self.is_failure: Mask = np.concatenate([*failed, np.empty(0, bool)])


class SelectedRecords(Sequence[ImageRecord]):
    """Some records of a table, in an order of their own, read when asked for."""

    def __init__(self, table: LabelTable, indices: Index) -> None:
        self.table = table
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: Any) -> Any:
        """Read one record; a slice or an array selects among the selected."""
        if isinstance(index, (slice, np.ndarray)):
            return SelectedRecords(self.table, self.indices[index])
        return self.table[int(self.indices[index])]


def random_records(path: Place, count: int, rng: np.random.Generator) -> SelectedRecords:
    """Draw labelled images at random, in the order of the labels.

    Args:
        path: label store or COCO JSON.
        count: images; all if there are fewer.
        rng: makes the draw.

    Raises:
        ValueError: `count` is less than 1.
    """
    if count < 1:
        raise ValueError(f'the number of random images must be at least 1, got {count}')
    table = LabelTable(path)
    labelled = np.flatnonzero(~table.is_failure)
    chosen = rng.choice(labelled, min(count, len(labelled)), replace=False)
    return SelectedRecords(table, np.sort(chosen))
