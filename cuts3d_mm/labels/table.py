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
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from itertools import compress, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cuts3d_mm.arrays import Double, Index, Mask
from cuts3d_mm.files.atomic import open_atomically
from cuts3d_mm.files.paths import is_inside, open_regular
from cuts3d_mm.files.remote import Place, map_files

from .coco import read_coco
from .left_out import Crowd, Remarks
from .record import ImageRecord, with_safe_name
from .store import SCHEMA, read_tables, record_from_row, row_from_record, shard_paths

_SOURCE_KEY = b'cuts3d_source'
_BATCH_KEY, _OUTLINE_KEY, _REMARKS_KEY = b'cuts3d_crc', b'cuts3d_outline_crc', b'cuts3d_left_out'
# Rules that files of an earlier version break.
_CONTENT = 'unsafe names are failures, every object has an area, checksums, places'
_ROWS_PER_BATCH = 2048
_DAMAGED = (ValueError, LookupError, TypeError, pa.ArrowException)  # or a file of another program


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
        self._path, self._crowd = path, crowd
        self._source = fingerprint(path, crowd)
        self._open().warn(path)

    def __len__(self) -> int:
        return len(self.image_hw)

    def __getitem__(self, index: int) -> ImageRecord:
        """Read one record."""
        number = int(np.searchsorted(self._ends, index, side='right'))
        try:
            batch = self._batch(number)
            row = index - int(self._ends[number]) + len(batch)
            return record_from_row(batch.slice(row, 1).to_pylist()[0])
        except (ValueError, TypeError, pa.ArrowException) as error:
            raise ValueError(f'{self._path}: {error}') from error

    def _batch(self, number: int) -> pa.RecordBatch:
        if number in self._checked:
            return self._reader.get_batch(number)
        try:
            found = _checked_batch(self._reader, number)
        except (*_DAMAGED, OSError):
            self._open(again=True)
            found = _checked_batch(self._reader, number)
        self._checked.add(number)
        return found

    def names(self) -> list[str]:
        """Read the names of all images, failures included."""
        return [name for batch in self._batches() for name in batch['name'].to_pylist()]

    def scores(self) -> tuple[Index, Double]:
        """Read the number of the image and the score of every instance, both (M,)."""
        return np.repeat(np.arange(len(self)), self.num_instances), self._read_field('score')

    def figures(self) -> ImageFigures:
        """Compute the figures of each image.

        Raises:
            ValueError: the labels cannot be read.
        """
        owners, scores = self.scores()
        largest = np.zeros(len(self))
        np.maximum.at(largest, owners, self._read_field('area'))
        mean_score = np.bincount(owners, scores, len(self)) / np.maximum(self.num_instances, 1)
        areas = np.maximum(self.image_hw.prod(axis=1, dtype=np.int64), 1)
        return ImageFigures(mean_score, largest / areas)

    def _batches(self) -> Iterator[pa.RecordBatch]:
        return map(self._batch, range(self._reader.num_record_batches))

    def _read_field(self, name: str) -> Double:
        """Read a number of every instance, (M,)."""
        fields = (batch['instances'].flatten().field(name) for batch in self._batches())
        return np.concatenate([np.empty(0), *map(np.asarray, fields)])

    def __getstate__(self) -> dict[str, Any]:
        return {'_path': self._path, '_crowd': self._crowd, '_source': self._source}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._open()

    def _open(self, again: bool = False) -> Remarks:
        opened = _open_unpacked(self._path, self._crowd, self._source, again)
        self._reader, self._ends, self.image_hw, self.num_instances, self.is_failure, said = opened
        self._checked: set[int] = set()
        return said


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
    """Draw labelled images at random, in the order of the labels; all if there are fewer.

    Raises:
        ValueError: `count` is less than 1.
    """
    if count < 1:
        raise ValueError(f'the number of random images must be at least 1, got {count}')
    table = LabelTable(path, crowd)
    labelled = np.flatnonzero(~table.is_failure)
    chosen = rng.choice(labelled, min(count, len(labelled)), replace=False)
    return SelectedRecords(table, np.sort(chosen))


class _Unpacked(NamedTuple):
    """An unpacked file, and what is kept of it in memory."""

    reader: pa.RecordBatchFileReader
    ends: Index  # number of images up to the end of each batch
    image_hw: NDArray[np.int32]  # (N, 2)
    num_instances: NDArray[np.int32]  # (N,)
    is_failure: Mask  # (N,)
    remarks: Remarks


def _open_unpacked(path: Place, crowd: Crowd, source: str, again: bool) -> _Unpacked:
    """Open the unpacked file of a store or JSON; write it if it is missing or damaged.

    The file lies next to the labels or, if nothing can be written there, in the user's cache
    folder or the folder of temporary files. With `again` it is written in any case.

    Raises:
        ValueError: the labels cannot be read, or have another fingerprint.
        OSError: the file can be written to no place.
    """
    cache = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'cuts3d_mm'
    places = [folder / f'{source}.arrow' for folder in (cache, _temporary_folder())]
    if isinstance(path, Path):
        is_store = path.is_dir()
        next_to = path / 'unpacked.arrow' if is_store else path.with_suffix('.unpacked.arrow')
        places.insert(0, next_to)
    for place in () if again else places:
        with suppress(*_DAMAGED, OSError):
            if not _is_foreign(place.parent):
                return _open_file(place, source)
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
            return _open_file(place, source)
        except OSError as error:  # a store that is shared for reading, or a full disk
            reasons.append(f'{place}: {error.strerror or error}')
    raise OSError(f'labels must be unpacked next to {path} or elsewhere: {"; ".join(reasons)}')


def _temporary_folder() -> Path:
    return Path(tempfile.gettempdir()) / f'cuts3d_mm-{_user()}'


def _user() -> int:
    return getattr(os, 'getuid', int)()  # 0 on Windows, as in the owner of each file


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
    return not stat.S_ISDIR(found.st_mode) or found.st_uid != _user()


def _open_file(path: Path, source: str) -> _Unpacked:
    """Map an unpacked file into memory; OSError, or an error of `_DAMAGED` if it is no good."""
    with open_regular(path) as file:
        content = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    reader = pa.ipc.open_file(pa.py_buffer(content))
    metadata = reader.schema.metadata or {}
    if not reader.schema.equals(SCHEMA) or metadata.get(_SOURCE_KEY) != source.encode():
        raise ValueError('must be unpacked from the same labels')
    outlines, remarks = [_outline(SCHEMA.empty_table())], Remarks()
    for number in range(reader.num_record_batches):
        batch, notes = reader.get_batch_with_custom_metadata(number)
        batch.validate()
        outlines.append(_outline(batch))
        if _checksum(*outlines[-1], notes[_REMARKS_KEY]) != notes[_OUTLINE_KEY]:
            raise ValueError('the outline must have the checksum that it was written with')
        remarks = Remarks(**json.loads(notes[_REMARKS_KEY]))  # the last batch knows all
    image_hw, num_instances, is_failure = map(np.concatenate, zip(*outlines, strict=True))
    ends = np.cumsum([len(counts) for _, counts, _ in outlines[1:]], dtype=np.int64)
    return _Unpacked(reader, ends, image_hw, num_instances, is_failure, remarks)


def _outline(batch: Any) -> tuple[NDArray[np.int32], NDArray[np.int32], Mask]:
    """Give the sizes, numbers of instances and failures that a table keeps in memory."""
    image_hw = np.stack([batch['height'], batch['width']], axis=1)
    counts, is_valid = pc.list_value_length(batch['instances']), batch['failure'].is_valid()
    return image_hw, np.asarray(counts), np.asarray(is_valid)


def _checked_batch(reader: pa.RecordBatchFileReader, number: int) -> pa.RecordBatch:
    """Read a batch and compare its checksum; an error of `_DAMAGED` if it is damaged."""
    batch, notes = reader.get_batch_with_custom_metadata(number)
    batch.validate(full=True)  # unchecked, a flipped bit could crash the process
    if _checksum(batch.serialize()) != notes[_BATCH_KEY]:
        raise ValueError('the unpacked labels must have the checksum that they were written with')
    return batch


def _checksum(*parts: Any) -> bytes:
    found = 0
    for part in parts:
        found = zlib.crc32(part, found)
    return b'%08x' % found


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
                    _BATCH_KEY: _checksum(batch.serialize()),
                    _OUTLINE_KEY: _checksum(*_outline(batch), said),
                    _REMARKS_KEY: said,
                }
                writer.write_batch(batch, custom_metadata=notes)


def _tables_of(path: Place, crowd: Crowd, remarks: Remarks) -> Iterator[pa.Table]:
    """Read the labels in tables; `remarks` holds what is left out up to a table's end."""
    if path.is_dir():
        for _, table in read_tables(path):
            yield _usable(table, remarks)
        return
    records = map(with_safe_name, read_coco(path, crowd, remarks))
    while rows := list(map(row_from_record, islice(records, _ROWS_PER_BATCH))):
        yield pa.Table.from_pylist(rows, SCHEMA)


def _usable(table: pa.Table, remarks: Remarks) -> pa.Table:
    """Give a shard the fields of SCHEMA, in which names are safe and instances cover something."""
    stored = table.schema.field('instances').type.value_type
    is_current = 'digest' in table.column_names and stored.get_field_index('lower_bound') >= 0
    if is_current and not table.schema.equals(SCHEMA):
        table = table.select(SCHEMA.names).cast(SCHEMA)  # without embeddings and classes
    instances = table['instances'].combine_chunks().flatten()
    areas = np.asarray(instances.field('area').fill_null(0))
    sides = np.asarray(instances.field('box_xywh').flatten(), np.float64).reshape(-1, 4)[:, 2:]
    is_covered = len(areas) == len(sides) and (areas > 0).all() and (sides > 0).all()
    if is_current and is_covered and all(map(is_inside, table['name'].to_pylist())):
        return table
    records = []
    for row in table.to_pylist():
        record = with_safe_name(record_from_row(row))
        covers = (min(one.area, *one.box_xywh[2:]) > 0 for one in record.instances)
        kept = tuple(compress(record.instances, covers))
        remarks.without_area += len(record.instances) - len(kept)
        records.append(row_from_record(replace(record, instances=kept)))
    return pa.Table.from_pylist(records, SCHEMA)
