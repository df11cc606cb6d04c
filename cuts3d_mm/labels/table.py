"""Read labels in any order, for training: unpacked once, then mapped into memory."""

from __future__ import annotations

import errno
import hashlib
import json
import mmap
import os
import stat
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cuts3d_mm.arrays import Double, Index, Mask
from cuts3d_mm.files.atomic import open_atomically
from cuts3d_mm.files.paths import is_inside
from cuts3d_mm.files.remote import Place, is_utf8, map_files

from .coco import read_coco
from .left_out import Crowd, Remarks, require_crowd
from .record import ImageRecord, InstanceRecord, with_safe_name
from .store import SCHEMA, read_tables, record_from_row, row_from_record, shard_paths

_SOURCE_KEY = b'cuts3d_source'
_BATCH_KEY, _OUTLINE_KEY, _REMARKS_KEY = b'cuts3d_crc', b'cuts3d_outline_crc', b'cuts3d_left_out'
# Rules that files of an earlier version break.
_CONTENT = 'unsafe names are failures, every object has an area, checksums, places'
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
        crowd: whether regions of a COCO JSON that are marked `iscrowd` are left out ('ignore')
            or are objects ('objects').

    Raises:
        ValueError: the path is neither, or the option is another word.
    """

    def __init__(self, path: Place, crowd: Crowd = 'ignore') -> None:
        require_crowd(crowd)
        self._path, self._crowd = path, crowd
        self._source = fingerprint(path, crowd)
        self._open().warn(path)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, index: int) -> ImageRecord:
        """Read one record."""
        try:
            return self._read(index)
        except (ValueError, TypeError, pa.ArrowException) as error:
            raise ValueError(f'{self._path}: {error}') from error

    def _read(self, index: int) -> ImageRecord:
        batch = int(np.searchsorted(self._ends, index, side='right'))
        row = index - (int(self._ends[batch - 1]) if batch else 0)
        return record_from_row(self._batch(batch).slice(row, 1).to_pylist()[0])

    def _batch(self, number: int) -> pa.RecordBatch:
        if number in self._checked:
            return self._reader.get_batch(number)
        try:
            found = _checked_batch(self._reader, number)
        except (ValueError, TypeError, OSError, pa.ArrowException):  # the file is damaged
            self._open(again=True)
            found = _checked_batch(self._reader, number)
        self._checked.add(number)
        return found

    def names(self) -> list[str]:
        """Read the names of all images, failures included."""
        batches = map(self._batch, range(self._reader.num_record_batches))
        return [name for batch in batches for name in batch['name'].to_pylist()]

    def scores(self) -> tuple[Index, Double]:
        """Read the number of the image and the score of every instance, both (M,)."""
        owners, scores, first = [np.empty(0, np.int64)], [np.empty(0)], 0
        for number in range(self._reader.num_record_batches):
            lists = self._batch(number)['instances']
            counts = np.asarray(pc.list_value_length(lists))
            owners.append(np.repeat(np.arange(first, first + len(counts)), counts))
            scores.append(np.asarray(lists.flatten().field('score'), np.float64))
            first += len(counts)
        return np.concatenate(owners), np.concatenate(scores)

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
        return {'_path': self._path, '_crowd': self._crowd, '_source': self._source}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._open()

    def _open(self, again: bool = False) -> Remarks:
        self._reader = open_unpacked(self._path, again, self._crowd, self._source)
        self._checked: set[int] = set()
        remarks = Remarks()
        sizes, counts, failed = [], [], []
        for index in range(self._reader.num_record_batches):
            batch, notes = _with_notes(self._reader, index)
            remarks = Remarks(**json.loads(notes[_REMARKS_KEY]))  # the last batch knows all
            sizes.append(np.stack([batch['height'], batch['width']], axis=1))
            counts.append(np.asarray(pc.list_value_length(batch['instances'])))
            failed.append(np.asarray(batch['failure'].is_valid()))
        self._ends = np.cumsum([len(part) for part in counts], dtype=np.int64)
        self.image_hw: NDArray[np.int32] = np.concatenate([*sizes, np.empty((0, 2), np.int32)])
        self.num_instances: NDArray[np.int32] = np.concatenate([*counts, np.empty(0, np.int32)])
        self.is_failure: Mask = np.concatenate([*failed, np.empty(0, bool)])
        return remarks


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


def random_records(
    path: Place, count: int, rng: np.random.Generator, crowd: Crowd = 'ignore'
) -> SelectedRecords:
    """Draw labelled images at random, in the order of the labels.

    Args:
        path: label store or COCO JSON.
        count: number of images; all if there are fewer.
        rng: random generator of the draw.
        crowd: as for `LabelTable`.

    Raises:
        ValueError: `count` is less than 1.
    """
    if count < 1:
        raise ValueError(f'the number of random images must be at least 1, got {count}')
    table = LabelTable(path, crowd)
    labelled = np.flatnonzero(~table.is_failure)
    chosen = rng.choice(labelled, min(count, len(labelled)), replace=False)
    return SelectedRecords(table, np.sort(chosen))


def open_unpacked(
    path: Place, again: bool = False, crowd: Crowd = 'ignore', source: str | None = None
) -> pa.RecordBatchFileReader:
    """Open the unpacked file of a store or JSON; write it if it is missing or damaged.

    The file lies next to the labels or, if nothing can be written there, in the user's cache
    folder or the folder of temporary files.

    Args:
        path: folder of a label store, or a COCO JSON.
        again: whether to write the file even if it exists.
        crowd: whether crowd regions of a COCO JSON are left out or are objects.
        source: fingerprint that the labels must have; None: the fingerprint that they have.

    Raises:
        ValueError: the labels cannot be read, or have another fingerprint.
        OSError: the file can be written to no place.
    """
    source = fingerprint(path, crowd) if source is None else source
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
    if fingerprint(path, crowd) != source:
        raise ValueError(
            f'{path} must stay as it was when it was opened, its files have changed; start again'
        )
    reasons = []
    for place in places:
        try:
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if _is_foreign(place.parent):
                raise PermissionError(errno.EPERM, 'folder of another user')
            _write_unpacked(path, place, source, crowd)
        except OSError as error:  # a store that is shared for reading, or a full disk
            reasons.append(f'{place}: {error.strerror or error}')
        else:
            return _open_file(place)
    raise OSError(f'labels must be unpacked next to {path} or elsewhere: {"; ".join(reasons)}')


def _temporary_folder() -> Path:
    return Path(tempfile.gettempdir()) / f'cuts3d_mm-{os.getuid()}'


def fingerprint(path: Place, crowd: Crowd = 'ignore') -> str:
    """Identify what is read of labels by the names, sizes and times of their files."""
    parts: list[Place] = [*shard_paths(path)] if path.is_dir() else [path]
    found = zip(parts, map_files(lambda part: part.stat(), parts), strict=True)
    stats = [(part.name, stat.st_size, stat.st_mtime_ns) for part, stat in found]
    told = repr((_CONTENT, str(path.resolve()), stats, crowd))
    return hashlib.sha256(told.encode()).hexdigest()[:32]


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
            batch, notes = _with_notes(reader, index)
            batch.validate()
            if _outline(batch, notes[_REMARKS_KEY]) != notes[_OUTLINE_KEY]:
                return None
    except (
        OSError,
        ValueError,
        LookupError,
        TypeError,
        pa.ArrowException,
    ):  # damaged, or a file of another program
        return None
    is_ours = reader.schema.equals(SCHEMA) and metadata.get(_SOURCE_KEY) == source.encode()
    return reader if is_ours else None


def _open_file(path: Path) -> pa.RecordBatchFileReader:
    if is_utf8(path):
        return pa.ipc.open_file(pa.memory_map(str(path)))
    with path.open('rb') as file:
        return pa.ipc.open_file(pa.py_buffer(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)))


def _with_notes(
    reader: pa.RecordBatchFileReader, number: int
) -> tuple[pa.RecordBatch, dict[bytes, bytes]]:
    batch, notes = reader.get_batch_with_custom_metadata(number)
    return batch, dict(notes or {})


def _checked_batch(reader: pa.RecordBatchFileReader, number: int) -> pa.RecordBatch:
    """Read a batch and compare its checksum.

    Raises:
        ValueError, ArrowException: the batch is damaged.
    """
    batch, notes = _with_notes(reader, number)
    batch.validate(full=True)  # unchecked, a flipped bit could crash the process
    if _checksum(batch) != notes.get(_BATCH_KEY):
        raise ValueError('the unpacked labels must have the checksum that they were written with')
    return batch


def _checksum(batch: pa.RecordBatch) -> bytes:
    return b'%08x' % zlib.crc32(batch.serialize())


def _outline(batch: pa.RecordBatch, remarks: bytes) -> bytes:
    """Compute the checksum of what a table reads of every batch when it is opened."""
    columns = (
        np.asarray(batch['height']),
        np.asarray(batch['width']),
        np.asarray(pc.list_value_length(batch['instances'])),
        np.asarray(batch['failure'].is_valid()),
    )
    content = b''.join([*(column.tobytes() for column in columns), remarks])
    return b'%08x' % zlib.crc32(content)


def _write_unpacked(path: Place, target: Path, source: str, crowd: Crowd) -> None:
    schema, remarks = SCHEMA.with_metadata({_SOURCE_KEY: source.encode()}), Remarks()
    with open_atomically(target) as file, pa.ipc.new_file(file, schema) as writer:
        for table in _tables_of(path, crowd, remarks):
            # A batch for each table: a reader opens few batches faster than many.
            for unwritten in table.combine_chunks().to_batches():
                # Read back, so that the checksum is that of the buffers as a reader gets them.
                batch = pa.ipc.read_record_batch(unwritten.serialize(), SCHEMA)
                said = json.dumps(asdict(remarks)).encode()
                notes = {
                    _BATCH_KEY: _checksum(batch),
                    _OUTLINE_KEY: _outline(batch, said),
                    _REMARKS_KEY: said,
                }
                writer.write_batch(batch, custom_metadata=notes)


def _tables_of(path: Place, crowd: Crowd, remarks: Remarks) -> Iterator[pa.Table]:
    """Read the labels in tables; `remarks` holds what is left out up to a table's end."""
    if path.is_dir():
        for _, table in read_tables(path):
            yield _with_area(_with_safe_names(_with_every_field(table)), remarks)
        return
    rows: list[dict[str, Any]] = []
    for record in map(with_safe_name, read_coco(path, crowd, remarks)):
        if len(rows) == _ROWS_PER_BATCH:
            yield pa.Table.from_pylist(rows, SCHEMA)
            rows = []
        rows.append(row_from_record(record))
    if rows:
        yield pa.Table.from_pylist(rows, SCHEMA)


def _with_every_field(table: pa.Table) -> pa.Table:
    """Add what an older store lacks, as nulls, and leave out embeddings and classes."""
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
    found = {name: table[name] for name in table.column_names} | {'instances': lists}
    columns = [found.get(name, pa.nulls(len(table), pa.binary())) for name in SCHEMA.names]
    return pa.table(columns, SCHEMA)


def _with_safe_names(table: pa.Table) -> pa.Table:
    if all(map(is_inside, table['name'].to_pylist())):
        return table
    records = (with_safe_name(record_from_row(row)) for row in table.to_pylist())
    return pa.Table.from_pylist([row_from_record(record) for record in records], SCHEMA)


def _with_area(table: pa.Table, remarks: Remarks) -> pa.Table:
    """Leave out and count the instances of a shard that cover nothing."""
    instances = table['instances'].combine_chunks().flatten()
    areas = np.asarray(instances.field('area').fill_null(0))
    sides = np.asarray(instances.field('box_xywh').flatten(), np.float64).reshape(-1, 4)[:, 2:]
    if len(areas) == len(sides) and (areas > 0).all() and (sides > 0).all():
        return table
    records = []
    for record in map(record_from_row, table.to_pylist()):
        kept = tuple(one for one in record.instances if _covers(one))
        remarks.without_area += len(record.instances) - len(kept)
        records.append(replace(record, instances=kept))
    return pa.Table.from_pylist([row_from_record(record) for record in records], SCHEMA)


def _covers(instance: InstanceRecord) -> bool:
    return instance.area > 0 and min(instance.box_xywh[2:]) > 0
