"""A folder of labels: shards in the order of the image names, plus `failures.jsonl`.

The folder holds whole shards only, and a missing one is simply made again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Set
from itertools import islice
from pathlib import Path

import numpy as np

from cuts3d_mm.arrays import Double
from cuts3d_mm.files.atomic import make_folder_atomically, open_atomically
from cuts3d_mm.files.remote import Place, map_files
from cuts3d_mm.labels.record import ImageRecord
from cuts3d_mm.labels.shard import Counts, P, read_counts, read_shard, read_table, write_shard

_IMAGES_PER_SHARD = 512  # of a store written in one go


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


def shard_paths(folder: P) -> list[P]:
    """Shards of a store in order.

    Raises:
        ValueError: there are none; the folder is no store.
    """
    paths: list[P] = [*sorted(folder.glob('labels-*.parquet'))]  # type: ignore[list-item]
    if not paths:
        raise ValueError(f'{folder} must be a label store, found no labels-*.parquet in it')
    return paths


def read_store(folder: Place) -> Iterator[ImageRecord]:
    """Read all records of a store in the order of the image names.

    Raises:
        ValueError: the folder is no store, or a shard is damaged.
    """
    for path in shard_paths(folder):
        yield from read_shard(path)


def read_names(folder: Place) -> list[str]:
    """Names of all images of a store, failures included.

    Raises:
        ValueError: the folder is no store, or a shard is damaged.
    """
    tables = (read_table(path, ['name']) for path in shard_paths(folder))
    return [name for table in tables for name in table['name'].to_pylist()]


def read_scores(folder: Place, excluded: Set[str] = frozenset()) -> Double:
    """Scores of all instances of a store, (N,), in [0, 1].

    Args:
        folder: the store.
        excluded: names of images that are left out.

    Raises:
        ValueError: the folder is no store, or a shard is damaged.
    """
    found = []
    for path in shard_paths(folder):
        table = read_table(path, ['name', 'instances.list.element.score'])
        table = table.filter([name not in excluded for name in table['name'].to_pylist()])
        instances = table['instances'].combine_chunks().flatten()
        found.append(instances.field('score').to_numpy().astype(np.float64))
    return np.concatenate(found)


def write_failures(folder: Place) -> None:
    """Collect the failures of all shards in `failures.jsonl`, a line each."""
    with open_atomically(folder / 'failures.jsonl') as file:
        paths = shard_paths(folder)
        for path, counts in zip(paths, map_files(read_counts, paths), strict=True):
            if counts.failures == 0:
                continue
            for row in read_table(path, ['name', 'failure']).to_pylist():
                if row['failure'] is not None:
                    line = {'path': row['name'], 'reason': row['failure']}
                    file.write(json.dumps(line, ensure_ascii=False).encode() + b'\n')
