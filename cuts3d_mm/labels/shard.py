"""Write, check and read one shard of a label store: a Parquet file with one row per image.

A shard takes its name when all of it is there, so that a folder holds whole shards only.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from cuts3d_mm import __version__
from cuts3d_mm.files.atomic import open_atomically
from cuts3d_mm.files.remote import Place, parquet_source
from cuts3d_mm.labels.record import ImageRecord
from cuts3d_mm.labels.rows import SCHEMA, check_schema, record_from_row, row_from_record
from cuts3d_mm.labels.shard_damage import DamagedShard, naming_shard

OUT_OF_MEMORY = 'out of memory'  # begins the reason of a failure that need not happen again
P = TypeVar('P', bound=Place)
_COUNTS_KEY = b'cuts3d_counts'
_VERSION_KEY = b'cuts3d_version'  # of the package that wrote the shard
_HALVED_KEY = b'cuts3d_batch_halved'


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


def shard_path(folder: P, index: int) -> P:
    """Path of the shard with a given index; sorting names sorts indices."""
    return folder / f'labels-{index:06d}.parquet'  # type: ignore[return-value]


def write_shard(
    folder: Place, index: int, records: Sequence[ImageRecord], was_halved: bool = False
) -> Counts:
    """Write one shard atomically and return what it holds.

    Args:
        folder: the label store.
        index: of the shard.
        records: in the order of the images.
        was_halved: a batch did not fit into the memory of the device and was halved, which can
            change the last bits of features; the shard says so.
    """
    counts = Counts(
        images=len(records),
        instances=sum(len(record.instances) for record in records),
        failures=sum(record.failure is not None for record in records),
    )
    metadata = {
        _COUNTS_KEY: json.dumps(vars(counts)).encode(),
        _VERSION_KEY: __version__.encode(),
        **({_HALVED_KEY: b'1'} if was_halved else {}),
    }
    rows = [row_from_record(record) for record in records]
    table = pa.Table.from_pylist(rows, SCHEMA.with_metadata(metadata))
    with open_atomically(shard_path(folder, index)) as file:
        pq.write_table(table, file, compression='zstd', write_page_checksum=True)
    return counts


def read_counts(path: Place) -> Counts:
    """Read what a shard holds from its footer alone.

    Raises:
        DamagedShard: it has none, or not that of a shard.
    """
    with naming_shard(path):
        footer = pq.read_metadata(parquet_source(path))
        check_schema(footer.schema.to_arrow_schema())
        counts = Counts(**json.loads((footer.metadata or {})[_COUNTS_KEY]))
        if counts.images != footer.num_rows:
            raise ValueError(f'must hold {counts.images} images, holds {footer.num_rows}')
        return counts


def was_batch_halved(path: Place) -> bool:
    """Tell whether a batch of a shard did not fit into memory and was halved."""
    with naming_shard(path):
        return _HALVED_KEY in (pq.read_metadata(parquet_source(path)).metadata or {})


def ran_out_of_memory(path: Place) -> bool:
    """Tell whether an image of a whole shard failed because there was no memory for it."""
    if not read_counts(path).failures:
        return False
    reasons = read_table(path, ['failure'])['failure'].to_pylist()
    return any(reason is not None and reason.startswith(OUT_OF_MEMORY) for reason in reasons)


def find_damage(path: Place) -> DamagedShard | None:
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


def read_table(path: Place, columns: Sequence[str] | None = None) -> pa.Table:
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


def read_shard(path: Place) -> Iterator[ImageRecord]:
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


def _open_shard(path: Place) -> pq.ParquetFile:
    shard = pq.ParquetFile(parquet_source(path), page_checksum_verification=True)
    check_schema(shard.schema_arrow)
    return shard
