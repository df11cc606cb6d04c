"""Any record of a label store at once, without reading the store.

Parquet has to be unpacked in blocks. The first reader of a store therefore writes it out once
more, unpacked, as an Arrow file, which every process maps into memory: 1.3 million images take
no memory of the processes that read them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cuts3d_mm.labels.atomic import open_atomically
from cuts3d_mm.labels.coco import read_coco
from cuts3d_mm.labels.record import ImageRecord, with_safe_name
from cuts3d_mm.labels.store import SCHEMA, record_from_row, row_from_record, shard_paths
from cuts3d_mm.paths import is_inside

_SOURCE_KEY = b'cuts3d_source'
_CONTENT = 'unsafe names are failures'  # what a file of an earlier version does not hold to
_ROWS_PER_BATCH = 2048


class LabelTable:
    """Random access to the records of a store or a COCO JSON.

    Args:
        path: folder of a label store, or a COCO JSON.

    Raises:
        ValueError: neither.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._open()

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, index: int) -> ImageRecord:
        """Read one record."""
        batch = int(np.searchsorted(self._ends, index, side='right'))
        row = index - (int(self._ends[batch - 1]) if batch else 0)
        rows = self._reader.get_batch(batch).slice(row, 1).to_pylist()
        return record_from_row(rows[0])

    def names(self) -> list[str]:
        """Read the names of all images, failures included."""
        batches = (self._reader.get_batch(i) for i in range(self._reader.num_record_batches))
        return [name for batch in batches for name in batch['name'].to_pylist()]

    def __getstate__(self) -> dict[str, Any]:
        return {'_path': self._path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._path = state['_path']
        self._open()

    def _open(self) -> None:
        self._reader = _open_unpacked(self._path)
        sizes, counts, failed = [], [], []
        for index in range(self._reader.num_record_batches):
            batch = self._reader.get_batch(index)
            sizes.append(np.stack([batch['height'], batch['width']], axis=1))
            counts.append(np.asarray(pc.list_value_length(batch['instances'])))
            failed.append(np.asarray(batch['failure'].is_valid()))
        self._ends = np.cumsum([len(part) for part in counts], dtype=np.int64)
        self.image_hw: NDArray[np.int32] = np.concatenate([*sizes, np.empty((0, 2), np.int32)])
        self.num_instances: NDArray[np.int32] = np.concatenate([*counts, np.empty(0, np.int32)])
        self.is_failure: NDArray[np.bool_] = np.concatenate([*failed, np.empty(0, bool)])


def _open_unpacked(path: Path) -> pa.RecordBatchFileReader:
    source = _fingerprint(path)
    beside = path / 'unpacked.arrow' if path.is_dir() else path.with_suffix('.unpacked.arrow')
    elsewhere = _cache_folder() / f'{source}.arrow'
    for place in (beside, elsewhere):
        reader = _open_if_current(place, source)
        if reader is not None:
            return reader
    try:
        _write_unpacked(path, beside, source)
    except PermissionError:  # a store that is shared for reading
        elsewhere.parent.mkdir(parents=True, exist_ok=True)
        _write_unpacked(path, elsewhere, source)
        return _open_file(elsewhere)
    return _open_file(beside)


def _cache_folder() -> Path:
    return Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'cuts3d_mm'


def _fingerprint(path: Path) -> str:
    parts = shard_paths(path) if path.is_dir() else [path]
    stats = [(part.name, part.stat().st_size, part.stat().st_mtime_ns) for part in parts]
    return hashlib.sha256(repr((_CONTENT, str(path.resolve()), stats)).encode()).hexdigest()[:32]


def _open_if_current(path: Path, source: str) -> pa.RecordBatchFileReader | None:
    if not path.is_file():
        return None
    reader = _open_file(path)
    return reader if reader.schema.metadata.get(_SOURCE_KEY) == source.encode() else None


def _open_file(path: Path) -> pa.RecordBatchFileReader:
    return pa.ipc.open_file(pa.memory_map(str(path)))


def _write_unpacked(path: Path, target: Path, source: str) -> None:
    schema = SCHEMA.with_metadata({_SOURCE_KEY: source.encode()})
    with open_atomically(target) as file, pa.ipc.new_file(file, schema) as writer:
        for table in _tables_of(path):
            # One batch each: a reader counts batches, not rows, when it opens the file.
            for batch in table.combine_chunks().to_batches():
                writer.write_batch(batch)


def _tables_of(path: Path) -> Iterator[pa.Table]:
    if path.is_dir():
        for shard in shard_paths(path):
            yield _with_safe_names(_with_every_field(pq.read_table(shard)))
        return
    rows: list[dict[str, Any]] = []
    for record in map(with_safe_name, read_coco(path)):
        rows.append(row_from_record(record))
        if len(rows) == _ROWS_PER_BATCH:
            yield pa.Table.from_pylist(rows, SCHEMA)
            rows = []
    if rows:
        yield pa.Table.from_pylist(rows, SCHEMA)


def _with_every_field(table: pa.Table) -> pa.Table:
    """Give the instances of an older store the fields that it lacks, as nulls."""
    if table.schema.equals(SCHEMA):
        return table
    instances = table['instances'].combine_chunks()
    values = instances.flatten()
    stored = {
        field.name: array for field, array in zip(values.type, values.flatten(), strict=True)
    }
    wanted = list(SCHEMA.field('instances').type.value_type)
    arrays = [stored.get(field.name, pa.nulls(len(values), field.type)) for field in wanted]
    lengths = np.asarray(pc.list_value_length(instances))
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    lists = pa.ListArray.from_arrays(offsets, pa.StructArray.from_arrays(arrays, fields=wanted))
    columns = [lists if name == 'instances' else table[name] for name in SCHEMA.names]
    return pa.table(columns, SCHEMA)


def _with_safe_names(table: pa.Table) -> pa.Table:
    if all(map(is_inside, table['name'].to_pylist())):
        return table
    records = (with_safe_name(record_from_row(row)) for row in table.to_pylist())
    return pa.Table.from_pylist([row_from_record(record) for record in records], SCHEMA)


class SelectedRecords(Sequence[ImageRecord]):
    """Some records of a table, in an order of their own, read when asked for."""

    def __init__(self, table: LabelTable, indices: NDArray[np.int64]) -> None:
        self.table = table
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: Any) -> Any:
        """Read one record; a slice or an array selects among the selected."""
        if isinstance(index, (slice, np.ndarray)):
            return SelectedRecords(self.table, self.indices[index])
        return self.table[int(self.indices[index])]


def random_records(path: Path, count: int, rng: np.random.Generator) -> SelectedRecords:
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
