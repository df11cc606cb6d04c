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
from cuts3d_mm.labels.record import (
    OLDER_LOWER_BOUND,
    ConfidenceCrop,
    ImageRecord,
    InstanceRecord,
)

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
        ('failure', pa.string()),  # null where the image was labelled
        ('instances', pa.list_(_INSTANCE)),
    ]
)
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
        pq.write_table(table, file, compression='zstd')
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
    """Read what a shard holds from its footer alone."""
    metadata = pq.read_schema(path).metadata or {}
    return Counts(**json.loads(metadata[_COUNTS_KEY]))


def read_shard(path: Path) -> Iterator[ImageRecord]:
    """Read the records of one shard."""
    for batch in pq.ParquetFile(path).iter_batches(batch_size=64):
        yield from (record_from_row(row) for row in batch.to_pylist())


def read_store(folder: Path) -> Iterator[ImageRecord]:
    """Read all records of a store in the order of the image names."""
    for path in shard_paths(folder):
        yield from read_shard(path)


def write_failures(folder: Path) -> None:
    """Collect the failures of all shards in `failures.jsonl`, a line each."""
    with open_atomically(folder / 'failures.jsonl') as file:
        for path in shard_paths(folder):
            if read_counts(path).failures == 0:
                continue
            for row in pq.read_table(path, columns=['name', 'failure']).to_pylist():
                if row['failure'] is not None:
                    line = {'path': row['name'], 'reason': row['failure']}
                    file.write(json.dumps(line, ensure_ascii=False).encode() + b'\n')


def row_from_record(record: ImageRecord) -> dict:
    """One record as a row of SCHEMA."""
    height, width = record.image_hw
    return {
        'name': record.name,
        'height': height,
        'width': width,
        'failure': record.failure,
        'instances': [_row_from_instance(instance) for instance in record.instances],
    }


def _row_from_instance(instance: InstanceRecord) -> dict:
    crop = instance.confidence
    return {
        'box_xywh': instance.box_xywh,
        'area': instance.area,
        'rle': instance.rle,
        'score': instance.score,
        # Not null: older pyarrow cannot read a null list of fixed size back.
        'grid_hw': (0, 0) if crop is None else crop.grid_hw,
        'crop_xywh': (0, 0, 0, 0) if crop is None else crop.crop_xywh,
        'confidence': None if crop is None else crop.values,
        'lower_bound': None if crop is None else crop.lower_bound,
    }


def record_from_row(row: dict) -> ImageRecord:
    """One row of SCHEMA as a record."""
    instances = tuple(_instance_from_row(instance) for instance in row['instances'])
    return ImageRecord(row['name'], (row['height'], row['width']), instances, row['failure'])


def _instance_from_row(row: dict) -> InstanceRecord:
    crop = None
    if row['confidence'] is not None:
        stored = row.get('lower_bound')  # an older store has no such column
        bound = OLDER_LOWER_BOUND if stored is None else stored
        place = tuple(row['grid_hw']), tuple(row['crop_xywh'])
        crop = ConfidenceCrop(*place, row['confidence'], bound)
    return InstanceRecord(tuple(row['box_xywh']), row['area'], row['rle'], row['score'], crop)
