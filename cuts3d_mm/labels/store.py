"""A folder of labels: Parquet shards, one row per image, plus `failures.jsonl`.

A shard is written under a temporary name and renamed, so
a folder holds whole shards only, and a missing one is simply made again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from cuts3d_mm import __version__
from cuts3d_mm.labels.atomic import make_folder_atomically, open_atomically
from cuts3d_mm.labels.record import ImageRecord
from cuts3d_mm.labels.rows import SCHEMA, check_schema, record_from_row, row_from_record
from cuts3d_mm.labels.shard_damage import DamagedShard, naming_shard

_COUNTS_KEY = b'cuts3d_counts'
_VERSION_KEY = b'cuts3d_version'  # of the package that wrote the shard
_IMAGES_PER_SHARD = 512  # of a store written in one go


@dataclass(frozen=True)
class Counts:
    """What a shard or a store holds."""

    images: int = 0  # labelled and failed together
    instances: int = 0
    failures: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.images + other.images,
            self.instances + other.instances,
            self.failures + other.failures,
        )


def shard_path(folder: Path, index: int) -> Path:
    """Path of the shard with a given index; sorting names sorts indices."""
    return folder / f'labels-{index:06d}.parquet'


def write_shard(folder: Path, index: int, records: Sequence[ImageRecord]) -> Counts:
    """Write one shard atomically and return what it holds."""
    counts = Counts(
        images=len(records),
        instances=sum(len(record.instances) for record in records),
        failures=sum(record.failure is not None for record in records),
    )
    metadata = {
        _COUNTS_KEY: json.dumps(vars(counts)).encode(),
        _VERSION_KEY: __version__.encode(),
    }
    rows = [row_from_record(record) for record in records]
    table = pa.Table.from_pylist(rows, SCHEMA.with_metadata(metadata))
    with open_atomically(shard_path(folder, index)) as file:
        pq.write_table(table, file, compression='zstd', write_page_checksum=True)
    return counts


def write_store(out: Path, records: Iterable[ImageRecord]) -> Counts:
    """Write a whole store under a temporary name and rename it: `out` is whole or absent.

    Args:
        out: folder to make.
        records: in the order of their names, one per name.

    Raises:
        FileExistsError: `out` is there already.
        ValueError: the names are out of order or doubled.
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


def shard_paths(folder: Path) -> list[Path]:
    """Shards of a store in order.

    Raises:
        ValueError: there are none; the folder is no store.
    """
    paths = sorted(folder.glob('labels-*.parquet'))
    if not paths:
        raise ValueError(f'{folder} must be a label store, found no labels-*.parquet in it')
    return paths


def read_counts(path: Path) -> Counts:
    """Read what a shard holds from its footer alone.

    Raises:
        DamagedShard: it has none, or not that of a shard.
    """
    with naming_shard(path):
        footer = pq.read_metadata(path)
        check_schema(footer.schema.to_arrow_schema())
        counts = Counts(**json.loads((footer.metadata or {})[_COUNTS_KEY]))
        if counts.images != footer.num_rows:
            raise ValueError(f'must hold {counts.images} images, holds {footer.num_rows}')
        return counts


def find_damage(path: Path) -> DamagedShard | None:
    """Read the footer and the checksums of a shard; None if it is whole."""
    try:
        with naming_shard(path):
            stored, table = read_counts(path), read_table(path)
            lengths, reasons = (
                table['instances'].combine_chunks().value_lengths(),
                table['failure'],
            )
            found = Counts(len(table), sum(lengths.to_pylist()), len(table) - reasons.null_count)
            if found != stored:
                raise ValueError(f'its footer must say {found}, says {stored}')
    except DamagedShard as damage:
        return damage
    return None


def read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a shard, or some columns of it, checking its checksums.

    Raises:
        DamagedShard: it is not whole.
    """
    with naming_shard(path), _open_shard(path) as shard:
        table = shard.read(columns=columns, use_threads=False)
        for name in table.column_names:
            if name != 'failure' and table[name].null_count:
                raise ValueError(f'column {name} must be there for every image')
        return table


def read_shard(path: Path) -> Iterator[ImageRecord]:
    """Read the records of one shard.

    Raises:
        DamagedShard: it is not whole, or holds a row that is none of ours.
    """
    with naming_shard(path):
        shard = _open_shard(path)
    with shard:
        batches = shard.iter_batches(batch_size=64, use_threads=False)
        while True:
            with naming_shard(path):
                batch = next(batches, None)
                rows = [] if batch is None else batch.to_pylist()
                records = [record_from_row(row) for row in rows]
            if batch is None:
                return
            yield from records


def _open_shard(path: Path) -> pq.ParquetFile:
    shard = pq.ParquetFile(path, page_checksum_verification=True)
    check_schema(shard.schema_arrow)
    return shard


def read_store(folder: Path) -> Iterator[ImageRecord]:
    """Read all records of a store in the order of the image names.

    Raises:
        ValueError: the folder is no store, or a shard is damaged.
    """
    for path in shard_paths(folder):
        yield from read_shard(path)


def write_failures(folder: Path) -> None:
    """Collect the failures of all shards in `failures.jsonl`, a line each."""
    with open_atomically(folder / 'failures.jsonl') as file:
        for path in shard_paths(folder):
            if read_counts(path).failures == 0:
                continue
            for row in read_table(path, ['name', 'failure']).to_pylist():
                if row['failure'] is not None:
                    line = {'path': row['name'], 'reason': row['failure']}
                    file.write(json.dumps(line, ensure_ascii=False).encode() + b'\n')
