"""Read and write label stores: folders of Parquet shards, with a list of the failures."""

from __future__ import annotations

import hashlib
import json
import logging
import operator
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cuts3d_mm import __version__
from cuts3d_mm.arrays import Double
from cuts3d_mm.files.atomic import make_folder_atomically, open_atomically, write_lines
from cuts3d_mm.files.remote import Place, map_files, parquet_source

from .record import (
    OLDER_LOWER_BOUND,
    ConfidenceCrop,
    ImageRecord,
    InstanceRecord,
    check_record,
)

_IMAGES_PER_SHARD = 512  # where a store is written in one go
OUT_OF_MEMORY = 'out of memory'  # start of the reason of a failure that may pass when run again
P = TypeVar('P', bound=Place)
_COUNTS_KEY = b'cuts3d_counts'
_VERSION_KEY = b'cuts3d_version'  # version of the package that wrote the shard
_HALVED_KEY = b'cuts3d_batch_halved'
_PLACE_KEY = b'cuts3d_place'  # what the shard holds, and of which run; absent in formats 1 and 2
# Only in stores that have them.
_OPTIONAL = {
    'embedding': pa.field('embedding', pa.list_(pa.float16())),
    'category': pa.field('category', pa.string()),
}
_INSTANCE = pa.struct(
    [
        ('box_xywh', pa.list_(pa.float32(), 4)),  # pixels
        ('area', pa.int64()),  # pixels
        ('rle', pa.binary()),  # COCO run-length code at image size
        ('score', pa.float32()),
        ('grid_hw', pa.list_(pa.int16(), 2)),  # patches
        ('crop_xywh', pa.list_(pa.int16(), 4)),  # patches
        ('confidence', pa.binary()),  # uint8 values of the crop; null: no confidence
        # Steps of 1/255 that the values were raised to; null: an older store, which raised to 0.5
        ('lower_bound', pa.uint8()),
    ]
)
SCHEMA = pa.schema(
    [
        ('name', pa.string()),
        ('height', pa.int32()),
        ('width', pa.int32()),
        ('failure', pa.string()),  # null: the image was labelled
        # Of 16 blocks spread over the image file; null: no such file, or an older store
        ('digest', pa.binary()),
        ('instances', pa.list_(_INSTANCE)),
    ]
)
_NULLABLE = ('failure', 'digest')


def write_store(out: Path, records: Iterable[ImageRecord]) -> Counts:
    """Write a whole store under a temporary name and rename it: `out` is whole or absent.

    Raises:
        FileExistsError: `out` exists already.
        ValueError: the names of the records are out of order or repeated.
    """
    total, index, ordered = Counts(), 0, _in_order(records)
    with make_folder_atomically(out) as unfinished:
        while shard := list(islice(ordered, _IMAGES_PER_SHARD)):
            total += write_shard(unfinished, index, shard)
            index += 1
        if not index:
            total += write_shard(unfinished, 0, [])
        write_failures(unfinished)
    return total


def _in_order(records: Iterable[ImageRecord]) -> Iterator[ImageRecord]:
    last = None
    for record in records:
        if last is not None and record.name <= last:
            raise ValueError(
                f'images must come in the order of their names, once each; got {record.name!r} '
                f'after {last!r}'
            )
        last = record.name
        yield record


def shard_paths(folder: P) -> list[P]:
    """List the shards of a store in order.

    Raises:
        ValueError: there is no shard; the folder is no store.
    """
    paths: list[P] = [*sorted(folder.glob('labels-*.parquet'))]  # type: ignore[list-item]
    if not paths:
        raise ValueError(f'{folder} must be a label store, found no labels-*.parquet in it')
    return paths


def read_tables(folder: P, columns: Sequence[str] | None = None) -> Iterator[tuple[P, pa.Table]]:
    """Read the shards of a store in order, or some of their columns, 'name' included.

    Raises:
        ValueError: the folder is no store, holds an image twice or shards of two runs, or a shard
            is damaged.
    """
    paths, count, last = shard_paths(folder), 0, list[str]()
    seen, is_ordered = set[str](), True  # names are kept only if they are out of order
    for place, path in enumerate(paths):
        table, mark = _read_whole(path, columns)
        if place == 0:
            run = mark
        elif mark != run:
            raise ValueError(
                f'{folder} must hold the shards of one run, {path.name} is of another run '
                f'than {paths[0].name}; run the command that wrote it again'
            )
        names = table['name'].to_pylist()
        if is_ordered and any(a >= b for a, b in pairwise([*last, *names])):
            is_ordered = False
            earlier = (read_table(one, ['name']) for one in paths[:place])
            seen = {name for one in earlier for name in one['name'].to_pylist()}
        for name in () if is_ordered else names:
            if name in seen:
                raise ValueError(
                    f'{folder} must hold each image once, holds {name!r} twice; run the '
                    'command that wrote it again'
                )
            seen.add(name)
        count, last = count + len(names), names[-1:] or last
        yield path, table
    if run is not None and count < run.num_images:
        logging.getLogger(__name__).warning(
            f'{folder} holds {count} of the {run.num_images} images of its run; run the command '
            'that wrote it again for the rest'
        )


def read_store(folder: Place) -> Iterator[ImageRecord]:
    """Read all records of a store in the order of its shards; errors are as for `read_tables`."""
    for path, table in read_tables(folder):
        yield from _records(path, table)


def read_names(folder: Place) -> list[str]:
    """Read the names of all images of a store, failures included, as `read_tables` does."""
    return [
        name for _, table in read_tables(folder, ['name']) for name in table['name'].to_pylist()
    ]


def read_scores(folder: Place) -> Double:
    """Read the scores of all instances, (N,), in [0, 1]; errors are as for `read_tables`."""
    found = []
    for _, table in read_tables(folder, ['name', 'instances.list.element.score']):
        instances = table['instances'].combine_chunks().flatten()
        found.append(instances.field('score').to_numpy().astype(np.float64))
    return np.concatenate(found)


def write_failures(folder: Place) -> None:
    """Write the failures of all shards to `failures.jsonl`, a line for each."""
    paths = shard_paths(folder)
    counts = zip(paths, map_files(read_counts, paths), strict=True)
    rows = (
        {'path': row['name'], 'reason': row['failure']}
        for path, counted in counts
        if counted.failures
        for row in read_table(path, ['name', 'failure']).to_pylist()
        if row['failure'] is not None
    )
    write_lines(folder / 'failures.jsonl', rows)


@dataclass(frozen=True)
class Counts:
    """Numbers of images, instances and failures in a shard or a store."""

    images: int = 0  # labelled and failed images together
    instances: int = 0
    failures: int = 0

    def __sub__(self, other: Counts) -> Counts:
        return Counts(*map(operator.sub, astuple(self), astuple(other)))

    def __add__(self, other: Counts) -> Counts:
        return Counts(*map(operator.add, astuple(self), astuple(other)))


# Images of a shard; a list: see `pipeline.run.shard_starts`.
ShardSize = int | list[int]


@dataclass(frozen=True)
class RunMark:
    """The run that a shard belongs to, as its footer says it."""

    run: str  # digest of all that the labels depend on
    num_images: int
    images_per_shard: ShardSize
    extraction: dict[str, Any]  # how the networks run


def shard_path(folder: P, index: int) -> P:
    """Path of the shard with an index; the order of the names is that of the indices."""
    return folder / f'labels-{index:06d}.parquet'  # type: ignore[return-value]


def write_shard(
    folder: Place,
    index: int,
    records: Sequence[ImageRecord],
    was_halved: bool = False,
    mark: RunMark | None = None,
) -> Counts:
    """Write one shard atomically and return its counts.

    Args:
        folder: folder of the label store.
        index: index of the shard.
        records: records in the order of the images.
        was_halved: whether a batch did not fit into the memory of the device and was halved,
            which can change the last bits of features; the shard says so.
        mark: run that the shard belongs to; None: no run of this store.
    """
    counts = Counts(
        images=len(records),
        instances=sum(len(record.instances) for record in records),
        failures=sum(record.failure is not None for record in records),
    )
    place = {
        'index': index,
        'names': digest_of_names(record.name for record in records),
        'mark': None if mark is None else asdict(mark),
    }
    metadata = {
        _PLACE_KEY: json.dumps(place, sort_keys=True).encode(),
        _COUNTS_KEY: json.dumps(vars(counts)).encode(),
        _VERSION_KEY: __version__.encode(),
        **({_HALVED_KEY: b'1'} if was_halved else {}),
    }
    rows = [row_from_record(record) for record in records]
    instances = [instance for record in records for instance in record.instances]
    extra = [
        field
        for name, field in _OPTIONAL.items()
        if any(getattr(instance, name) is not None for instance in instances)
    ]
    column = SCHEMA.get_field_index('instances')
    schema = SCHEMA.set(column, pa.field('instances', pa.list_(pa.struct([*_INSTANCE, *extra]))))
    table = pa.Table.from_pylist(rows, schema.with_metadata(metadata))
    with open_atomically(shard_path(folder, index)) as file:
        pq.write_table(table, file, compression='zstd', write_page_checksum=True)
    return counts


def read_counts(path: Place) -> Counts:
    """Read the counts of a shard from its footer alone.

    Raises:
        DamagedShard: there is no footer, or it is not the footer of a shard.
    """
    with _naming_shard(path):
        footer = pq.read_metadata(parquet_source(path))
        _check_schema(footer.schema.to_arrow_schema())
        _read_place(path, footer.metadata)
        counts = Counts(**json.loads((footer.metadata or {})[_COUNTS_KEY]))
        if counts.images != footer.num_rows:
            raise ValueError(f'must hold {counts.images} images, holds {footer.num_rows}')
        return counts


def read_mark(path: Place) -> RunMark | None:
    """Read the run that a shard belongs to; None: no run, or a store of format 1 or 2.

    Raises:
        DamagedShard: there is no footer, or it is not the footer of a shard.
    """
    with _naming_shard(path):
        return _read_place(path, pq.read_metadata(parquet_source(path)).metadata)[1]


def _read_place(
    path: Place, metadata: dict[bytes, bytes] | None
) -> tuple[str | None, RunMark | None]:
    """Read the digest of the names and the run of a shard that lies in its own place."""
    if _PLACE_KEY not in (metadata or {}):
        return None, None
    place = json.loads((metadata or {})[_PLACE_KEY])
    name = shard_path(path.parent, place['index']).name
    if path.name != name:
        raise ValueError(f'it must have the name that it was written under, {name}')
    mark = place['mark']
    return str(place['names']), None if mark is None else RunMark(**mark)


def digest_of_names(names: Iterable[str]) -> str:
    """Compute the digest of image names, in their order."""
    return hashlib.sha256('\n'.join(names).encode()).hexdigest()


def was_batch_halved(path: Place) -> bool:
    """Whether a batch of a shard did not fit into memory and was halved."""
    with _naming_shard(path):
        return _HALVED_KEY in (pq.read_metadata(parquet_source(path)).metadata or {})


def ran_out_of_memory(path: Place) -> bool:
    """Whether an image of a whole shard failed for lack of memory."""
    if not read_counts(path).failures:
        return False
    reasons = read_table(path, ['failure'])['failure'].to_pylist()
    return any(reason is not None and reason.startswith(OUT_OF_MEMORY) for reason in reasons)


def find_damage(
    path: Place, names: Sequence[str] | None = None, mark: RunMark | None = None
) -> DamagedShard | None:
    """Check the footer, the checksums and the images of a shard; None if it is whole.

    With `names` it must hold these images in this order, with `mark` belong to this run.
    """
    try:
        with _naming_shard(path):
            stored, (table, found_mark) = read_counts(path), _read_whole(path)
            num_instances = sum(table['instances'].combine_chunks().value_lengths().to_pylist())
            num_failures = len(table) - table['failure'].null_count
            found = Counts(len(table), num_instances, num_failures)
            if found != stored:
                raise ValueError(f'its footer must say {found}, says {stored}')
            held = table['name'].to_pylist()
            if names is not None and held != list(names):
                raise ValueError(
                    f'must hold the {len(names)} images of its place from {names[0]!r} on, holds '
                    f'{len(held)} from {held[0] if held else "nothing"!r} on'
                )
            if mark is not None and found_mark != mark:
                raise ValueError('must be a shard of this run, is a shard of another')
    except DamagedShard as damage:
        return damage
    return None


def read_table(path: Place, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a shard, or some columns of it, and check its checksums.

    Raises:
        DamagedShard: the shard is not whole.
    """
    return _read_whole(path, columns)[0]


def _read_whole(
    path: Place, columns: Sequence[str] | None = None
) -> tuple[pa.Table, RunMark | None]:
    """Read a shard as `read_table` does, and the run that it belongs to."""
    with (
        _naming_shard(path),
        pq.ParquetFile(parquet_source(path), page_checksum_verification=True) as shard,
    ):
        _check_schema(shard.schema_arrow)
        table = shard.read(columns=columns, use_threads=False)
        for name in table.column_names:
            if name not in _NULLABLE and table[name].null_count:
                raise ValueError(f'column {name} must be there for every image')
        digest, mark = _read_place(path, shard.metadata.metadata)
        if digest is not None and 'name' in table.column_names:
            if digest_of_names(table['name'].to_pylist()) != digest:
                raise ValueError('must hold the images that its footer says')
        return table, mark


def read_shard(path: Place) -> Iterator[ImageRecord]:
    """Read the records of one shard.

    Raises:
        DamagedShard: the shard is not whole, or holds a row that is not a record.
    """
    return _records(path, read_table(path))


def _records(path: Place, table: pa.Table) -> Iterator[ImageRecord]:
    with _naming_shard(path):
        for batch in table.to_batches(max_chunksize=64):
            yield from map(record_from_row, batch.to_pylist())


class DamagedShard(ValueError):
    """A file of a store is not a whole shard; the message names it."""

    def __init__(self, path: Place, error: Exception) -> None:
        reason = ' '.join(str(error).split()) or type(error).__name__
        super().__init__(
            f'shard {path} must be whole, it is damaged or from another program: {reason}; '
            'run the command that wrote it again'
        )


@contextmanager
def _naming_shard(path: Place) -> Iterator[None]:
    """Name the shard in errors that are raised while it is read."""
    try:
        yield
    except (FileNotFoundError, PermissionError, DamagedShard):
        raise
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError, MemoryError) as error:
        raise DamagedShard(path, error) from error


def row_from_record(record: ImageRecord) -> dict[str, Any]:
    """Turn a record into a row of SCHEMA."""
    height, width = record.image_hw
    rows = [_row_from_instance(instance) for instance in record.instances]
    return {**vars(record), 'height': height, 'width': width, 'instances': rows}


def _row_from_instance(instance: InstanceRecord) -> dict[str, Any]:
    crop, embedding = instance.confidence, instance.embedding
    return {
        **vars(instance),
        'embedding': None if embedding is None else np.frombuffer(embedding, '<f2'),
        # Not null: an older pyarrow cannot read null lists of fixed size.
        'grid_hw': (0, 0) if crop is None else crop.grid_hw,
        'crop_xywh': (0, 0, 0, 0) if crop is None else crop.crop_xywh,
        'confidence': None if crop is None else crop.values,
        'lower_bound': None if crop is None else crop.lower_bound,
    }


def record_from_row(row: dict[str, Any]) -> ImageRecord:
    """Turn a row of SCHEMA into a record.

    Raises:
        ValueError: the row does not hold labels that can be used.
    """
    instances = tuple(_instance_from_row(instance) for instance in row['instances'])
    image_hw = row['height'], row['width']
    record = ImageRecord(row['name'], image_hw, instances, row['failure'], row.get('digest'))
    return check_record(record)


def _instance_from_row(row: dict[str, Any]) -> InstanceRecord:
    if None in (row['box_xywh'], row['area'], row['rle'], row['score']):
        raise ValueError('an instance must have a box, an area, a run-length code and a score')
    crop = None
    if row['confidence'] is not None:
        if None in (row['grid_hw'], row['crop_xywh']):
            raise ValueError('confidence must have a grid and a crop')
        stored = row.get('lower_bound')  # an older store has no such column
        bound = OLDER_LOWER_BOUND if stored is None else stored
        place = tuple(row['grid_hw']), tuple(row['crop_xywh'])
        crop = ConfidenceCrop(*place, row['confidence'], bound)
    stored = row.get('embedding')
    embedding = None if stored is None else np.asarray(stored, '<f2').tobytes()
    found = tuple(row['box_xywh']), row['area'], row['rle'], row['score'], crop, embedding
    return InstanceRecord(*found, row.get('category'))


def _check_schema(found: pa.Schema) -> None:
    """Check that a table holds rows of SCHEMA, with or without the fields that may be absent."""
    missing = [name for name in SCHEMA.names if name not in (*found.names, 'digest')]
    if missing:
        raise ValueError(f'must have the columns {SCHEMA.names}, lacks {missing}')
    for field in list(SCHEMA)[:-1]:
        if field.name in found.names and found.field(field.name).type != field.type:
            raise ValueError(f'column {field.name} must be {field.type}')
    instances = found.field('instances').type
    if not (pa.types.is_list(instances) and pa.types.is_struct(instances.value_type)):
        raise ValueError('column instances must be a list of structs')
    theirs: dict[str, Any] = {field.name: field.type for field in instances.value_type}
    known = [*_INSTANCE, *_OPTIONAL.values()]
    unknown = set(theirs) - {field.name for field in known}
    if unknown:  # a damaged name, too: its field would otherwise count as left out
        raise ValueError(f'instances must have no other fields, got {sorted(unknown)}')
    for field in known:
        is_optional = field.name in ('lower_bound', *_OPTIONAL)
        if theirs.get(field.name, field.type if is_optional else None) != field.type:
            raise ValueError(f'field {field.name} of instances must be {field.type}')
