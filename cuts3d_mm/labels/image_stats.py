"""Sizes and times of the image files that a run labels, in one Arrow file."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cuts3d_mm.files.atomic import open_atomically
from cuts3d_mm.files.remote import Place

_SCHEMA = pa.schema([('name', pa.string()), ('size', pa.int64()), ('mtime_ns', pa.int64())])


@dataclass(frozen=True)
class ImageStats:
    """Files in the order of their names."""

    names: tuple[str, ...]
    size: NDArray[np.int64]  # (N,) bytes; -1: there was no file
    mtime_ns: NDArray[np.int64]  # (N,) of the last change


def write_image_stats(path: Place, stats: ImageStats) -> None:
    """Write the file; about 20 bytes per image."""
    columns = [pa.array(stats.names, pa.string()), pa.array(stats.size), pa.array(stats.mtime_ns)]
    options = pa.ipc.IpcWriteOptions(compression='zstd')
    with open_atomically(path) as file, pa.ipc.new_file(file, _SCHEMA, options=options) as writer:
        writer.write_table(pa.Table.from_arrays(columns, schema=_SCHEMA))


def read_image_stats(path: Place) -> ImageStats | None:
    """Read the file; None where there is none or it is damaged."""
    try:
        table = pa.ipc.open_file(pa.BufferReader(path.read_bytes())).read_all()
        table.validate(full=True)
        columns = [table[name].to_numpy() for name in ('size', 'mtime_ns')]
        return ImageStats(tuple(table['name'].to_pylist()), *columns)
    except (OSError, ValueError, KeyError, pa.ArrowException):
        return None
