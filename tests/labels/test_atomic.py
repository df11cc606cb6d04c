from __future__ import annotations

import pytest

from cuts3d_mm.labels.atomic import open_atomically, remove_leftovers


def test_file_appears_whole(tmp_path):
    path = tmp_path / 'file'
    with open_atomically(path) as file:
        file.write(b'half')
        assert not path.exists()
    assert path.read_bytes() == b'half'


def test_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / 'file'
    path.write_bytes(b'old')
    with pytest.raises(OSError, match='disk full'), open_atomically(path) as file:
        file.write(b'new')
        raise OSError('disk full')
    assert path.read_bytes() == b'old'
    assert list(tmp_path.iterdir()) == [path]


def test_leftovers_of_killed_processes_are_removed(tmp_path):
    (tmp_path / '.labels-000000.parquet.99.partial').touch()
    (tmp_path / 'labels-000001.parquet').touch()
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ['labels-000001.parquet']
