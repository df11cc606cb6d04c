from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from dataclasses import replace

import pytest

from cuts3d_mm.files.atomic import (
    ProcessMark,
    make_folder_atomically,
    name_atomically,
    open_atomically,
    remove_leftovers,
)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def dead_mark():
    ended = subprocess.Popen([sys.executable, '-c', ''])
    ended.wait()
    return replace(ProcessMark.of_this_process(), pid=ended.pid)


def test_file_appears_whole(tmp_path):
    path = tmp_path / 'file'
    with open_atomically(path) as file:
        file.write(b'half')
        assert not path.exists()
    assert path.read_bytes() == b'half'


def test_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / 'file'
    path.write_bytes(b'old')
    with pytest.raises(OSError, match='unplugged'), open_atomically(path) as file:
        file.write(b'new')
        raise OSError('unplugged')
    assert path.read_bytes() == b'old'
    assert names(tmp_path) == ['file']


def test_a_full_disk_is_one_line_with_the_remedy_and_no_half_file(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with (
            pytest.raises(OSError, match=r'file is not written; make room, then run the same'),
            open_atomically(tmp_path / 'file') as file,
        ):
            file.write(bytes(5000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert names(tmp_path) == []


@pytest.mark.parametrize('way', [open_atomically, name_atomically])
def test_a_full_disk_is_told_also_where_a_library_hides_it(tmp_path, way):
    with pytest.raises(OSError, match='file is not written; make room'), way(tmp_path / 'file'):
        try:
            raise OSError(errno.ENOSPC, 'No space left on device')
        except OSError:
            raise RuntimeError('unexpected pos 704') from None
    assert names(tmp_path) == []


def test_two_writers_of_one_file_do_not_share_a_temporary_one(tmp_path):
    path = tmp_path / 'file'
    with open_atomically(path) as first, open_atomically(path) as second:
        first.write(b'first')
        second.write(b'second')
    assert path.read_bytes() == b'first' and names(tmp_path) == ['file']


def test_a_name_of_255_bytes_can_be_written(tmp_path):
    path = tmp_path / ('é' * 127 + 'a')
    with open_atomically(path) as file:
        file.write(b'content')
    assert path.read_bytes() == b'content' and names(tmp_path) == [path.name]


def test_a_link_is_followed_and_a_device_written_directly(tmp_path):
    (tmp_path / 'link').symlink_to('file')
    (tmp_path / 'null').symlink_to('/dev/null')
    for name in ('link', 'null'):
        with open_atomically(tmp_path / name) as file:
            file.write(b'content')
        assert (tmp_path / name).is_symlink()
    assert (tmp_path / 'file').read_bytes() == b'content'


def test_a_folder_that_is_gone_is_named(tmp_path):
    with (
        pytest.raises(FileNotFoundError, match='folder .*/gone must exist to write file'),
        open_atomically(tmp_path / 'gone/file'),
    ):
        pass


def test_leftovers_of_dead_processes_are_removed_and_nothing_else(tmp_path):
    living, elsewhere = ProcessMark.of_this_process(), ProcessMark('0' * 8, 1, 1)
    kept = [
        f'.labels.{living}.0.partial',
        f'.labels.{elsewhere}.0.partial',  # of another machine
        '.mine.partial',
        'labels-000001.parquet',
    ]
    removed = [f'.labels.{dead_mark()}.0.partial', f'.old.{elsewhere}.1.partial']
    for name in kept + removed:
        (tmp_path / name).touch()
    os.utime(tmp_path / removed[1], (0, 0))
    remove_leftovers(tmp_path)
    assert names(tmp_path) == sorted(kept)


def test_a_later_process_of_the_same_number_does_not_keep_a_leftover(tmp_path):
    earlier = replace(ProcessMark.of_this_process(), started=1)
    (tmp_path / f'.labels.{earlier}.0.partial').touch()
    remove_leftovers(tmp_path)
    assert names(tmp_path) == []


def test_a_folder_appears_whole_and_only_its_own_leftovers_go(tmp_path):
    for name in (f'.out.{dead_mark()}.0.partial', f'.other.{dead_mark()}.0.partial'):
        (tmp_path / name).mkdir()
        (tmp_path / name / 'file').touch()
    (tmp_path / 'out.unfinished').mkdir()
    with make_folder_atomically(tmp_path / 'out') as folder:
        (folder / 'file').touch()
        assert not (tmp_path / 'out').exists()
    assert [name.split('.')[:2] for name in names(tmp_path)] == [
        ['', 'other'],
        ['out'],
        ['out', 'unfinished'],
    ]
    with pytest.raises(FileExistsError), make_folder_atomically(tmp_path / 'out'):
        pass


def test_a_full_disk_names_the_folder_that_was_to_be_made(tmp_path):
    with (
        pytest.raises(OSError, match=r'full: [^:]*/out is not written; [^:]* again$'),
        make_folder_atomically(tmp_path / 'out') as folder,
        open_atomically(folder / 'file'),
    ):
        raise OSError(errno.ENOSPC, 'disk full')
    assert names(tmp_path) == []


def test_a_folder_that_fails_is_not_there(tmp_path):
    with (
        pytest.raises(ValueError, match='wrong'),
        make_folder_atomically(tmp_path / 'out') as folder,
    ):
        (folder / 'file').touch()
        raise ValueError('wrong')
    assert names(tmp_path) == []
