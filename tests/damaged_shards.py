"""Ways in which the file of a shard is damaged, or is none."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq


def _flip(path, position):
    content = bytearray(path.read_bytes())
    content[position] ^= 16
    path.write_bytes(content)


def _rewrite(path, change):
    table = pq.read_table(path)
    pq.write_table(change(table), path)


DAMAGES = {
    'empty': lambda path: path.write_bytes(b''),
    'cut short': lambda path: path.write_bytes(path.read_bytes()[:-200]),
    'half': lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    'a flipped bit in a page': lambda path: _flip(path, _first_page(path)),
    'a flipped bit in the length of the footer': lambda path: _flip(path, path.stat().st_size - 7),
    'no parquet': lambda path: path.write_bytes(b'no parquet' * 99),
    'another table': lambda path: _rewrite(path, lambda t: pa.table({'name': ['x'], 'n': [1]})),
    'a column of another type': lambda path: _rewrite(
        path, lambda t: t.set_column(1, 'height', t['height'].cast(pa.float64()))
    ),
}


def _first_page(path):
    """A position within the data of the names."""
    column = pq.read_metadata(path).row_group(0).column(0)
    first = min(column.data_page_offset, column.dictionary_page_offset or column.data_page_offset)
    return first + column.total_compressed_size - 3
