"""Read labels in any order, for training: unpacked once, then mapped into memory."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cuts3d_mm.arrays import Double, Index, Mask
from cuts3d_mm.files.atomic import open_atomically
from cuts3d_mm.files.paths import is_inside
from cuts3d_mm.files.remote import Place, map_files

from .coco import read_coco
from .record import ImageRecord, with_safe_name
from .store import SCHEMA, read_table, record_from_row, row_from_record, shard_paths

_SOURCE_KEY = b'cuts3d_source'
_CONTENT = 'unsafe names are failures'  # a rule that files of an earlier version break
_ROWS_PER_BATCH = 2048


@dataclass(frozen=True)
class ImageFigures:
    """Figures about the instances of each image; 0 for an image without instances."""

    mean_score: Double  # (N,) in [0, 1]
    largest_share: Double  # (N,) share of the image that its largest instance covers, in [0, 1]


class LabelTable:
    """Random access to the records of a store or a COCO JSON.

    Args:
        path: folder of a label store, or a COCO JSON.

    Raises:
        ValueError: the path is neither.
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
        except (ValueError, TypeError, pa.ArrowException):  # perhaps the unpacked file is damaged
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
        if number not in self._checked:  # unchecked, a flipped bit could crash the process
            found.validate(full=True)
            self._checked.add(number)
        return found

    def names(self) -> list[str]:
        """Read the names of all images, failures included."""
        batches = (self._reader.get_batch(i) for i in range(self._reader.num_record_batches))
        return [name for batch in batches for name in batch['name'].to_pylist()]

    def figures(self) -> ImageFigures:
        """Compute the figures of each image.

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
    """Some records of a table in any order, each read on access."""

    def __init__(self, table: LabelTable, indices: Index) -> None:
        self.table = table
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: Any) -> Any:
        """Read one record; a slice or an array gives fewer `SelectedRecords`."""
        if isinstance(index, (slice, np.ndarray)):
            return SelectedRecords(self.table, self.indices[index])
        return self.table[int(self.indices[index])]


def random_records(path: Place, count: int, rng: np.random.Generator) -> SelectedRecords:
    """Draw labelled images at random, in the order of the labels.

    Args:
        path: label store or COCO JSON.
        count: number of images; all if there are fewer.
        rng: random generator of the draw.

    Raises:
        ValueError: `count` is less than 1.
    """
    if count < 1:
        raise ValueError(f'the number of random images must be at least 1, got {count}')
    table = LabelTable(path)
    labelled = np.flatnonzero(~table.is_failure)
    chosen = rng.choice(labelled, min(count, len(labelled)), replace=False)
    return SelectedRecords(table, np.sort(chosen))


def open_unpacked(path: Place, again: bool = False) -> pa.RecordBatchFileReader:
    """Open the unpacked file of a store or JSON; write it if it is missing or damaged.

    The file lies next to the labels or, if nothing can be written there, in the user's cache
    folder or the folder of temporary files.

    Args:
        path: folder of a label store, or a COCO JSON.
        again: whether to write the file even if it exists.

    Raises:
        ValueError: the labels cannot be read.
        OSError: the file can be written to no place.
    """
    source = _fingerprint(path)
    cache = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'cuts3d_mm'
    places = [folder / f'{source}.arrow' for folder in (cache, _temporary_folder())]
    if isinstance(path, Path):
        is_store = path.is_dir()
        next_to = path / 'unpacked.arrow' if is_store else path.with_suffix('.unpacked.arrow')
        places.insert(0, next_to)
    for place in () if again else places:
        reader = _open_if_current(place, source)
        if reader is not None:
            return reader
    reasons = []
    for place in places:
        try:
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if _is_foreign(place.parent):
                raise PermissionError(errno.EPERM, 'folder of another user')
            _write_unpacked(path, place, source)
        except OSError as error:  # a store that is shared for reading, or a full disk
            reasons.append(f'{place}: {error.strerror or error}')
        else:
            return _open_file(place)
    raise OSError(f'labels must be unpacked next to {path} or elsewhere: {"; ".join(reasons)}')


def _temporary_folder() -> Path:
    return Path(tempfile.gettempdir()) / f'cuts3d_mm-{os.getuid()}'


def _fingerprint(path: Place) -> str:
    parts: list[Place] = [*shard_paths(path)] if path.is_dir() else [path]
    found = zip(parts, map_files(lambda part: part.stat(), parts), strict=True)
    stats = [(part.name, stat.st_size, stat.st_mtime_ns) for part, stat in found]
    return hashlib.sha256(repr((_CONTENT, str(path.resolve()), stats)).encode()).hexdigest()[:32]


def _is_foreign(folder: Path) -> bool:
    """Whether another user may have put a file into the folder of temporary files."""
    if folder != _temporary_folder():
        return False
    found = folder.lstat()
    return not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid()


def _open_if_current(path: Path, source: str) -> pa.RecordBatchFileReader | None:
    try:
        if not path.is_file() or _is_foreign(path.parent):
            return None
        reader = _open_file(path)
        metadata = reader.schema.metadata or {}
        for index in range(reader.num_record_batches):
            reader.get_batch(index).validate()
    except (OSError, ValueError, pa.ArrowException):  # damaged, or a file of another program
        return None
    is_ours = reader.schema.equals(SCHEMA) and metadata.get(_SOURCE_KEY) == source.encode()
    return reader if is_ours else None


def _open_file(path: Path) -> pa.RecordBatchFileReader:
    return pa.ipc.open_file(pa.memory_map(str(path)))


def _write_unpacked(path: Place, target: Path, source: str) -> None:
    schema = SCHEMA.with_metadata({_SOURCE_KEY: source.encode()})
    with open_atomically(target) as file, pa.ipc.new_file(file, schema) as writer:
        for table in _tables_of(path):
            # A batch for each table: a reader opens few batches faster than many.
            for batch in table.combine_chunks().to_batches():
                writer.write_batch(batch)


def _tables_of(path: Place) -> Iterator[pa.Table]:
    if path.is_dir():
        for shard in shard_paths(path):
            yield _with_safe_names(_with_every_field(read_table(shard)))
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
    """Add the fields that an older store lacks to its instances, as nulls."""
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
