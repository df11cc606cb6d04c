from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager

import pytest

from cuts3d_mm.files import lock
from cuts3d_mm.files.lock import FolderInUse, hold_folder

HOLDER = """
import sys
from pathlib import Path
from cuts3d_mm.files.lock import hold_folder
with hold_folder(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])):
    print('held', flush=True)
    sys.stdin.read()
"""


@contextmanager
def another_process(folder, part=0, parts=1):
    command = [sys.executable, '-c', HOLDER, str(folder), str(part), str(parts)]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b'held\n'
    try:
        yield holder
    finally:
        holder.kill()
        holder.communicate()


def test_a_second_run_is_told_who_has_the_folder(tmp_path):
    with another_process(tmp_path) as holder:
        with pytest.raises(FolderInUse, match=f'is being written by process {holder.pid};'):
            hold_folder(tmp_path).__enter__()
        with pytest.raises(FolderInUse, match=str(holder.pid)), hold_folder(tmp_path, 1, 2):
            pass


def test_parts_of_a_run_share_the_folder_but_each_has_one_process(tmp_path):
    with another_process(tmp_path, 0, 3) as holder:
        with hold_folder(tmp_path, 1, 3), hold_folder(tmp_path, 2, 3):
            pass
        with (
            pytest.raises(FolderInUse, match=f'process {holder.pid};'),
            hold_folder(tmp_path, 0, 3),
        ):
            pass
        with pytest.raises(FolderInUse, match=f'process {holder.pid};'), hold_folder(tmp_path):
            pass


def test_the_lock_of_a_killed_process_is_free_and_leaves_no_file(tmp_path):
    with another_process(tmp_path) as holder:
        holder.kill()
        holder.wait()
        assert (tmp_path / '.lock').is_file()
        with hold_folder(tmp_path):
            assert (tmp_path / '.lock').read_text() == str(os.getpid())
    assert list(tmp_path.iterdir()) == []


def test_the_last_part_removes_the_shared_lock(tmp_path):
    with hold_folder(tmp_path, 0, 2):
        with hold_folder(tmp_path, 1, 2):
            pass
        assert {path.name for path in tmp_path.iterdir()} == {'.lock', '.lock-0-of-2'}
    assert list(tmp_path.iterdir()) == []


def test_a_folder_removed_meanwhile_is_no_error(tmp_path):
    folder = tmp_path / 'out'
    folder.mkdir()
    with hold_folder(folder):
        (folder / '.lock').unlink()
        folder.rmdir()


def test_nothing_is_locked_on_a_network_file_system(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, '_is_on_network', lambda folder: True)
    with hold_folder(tmp_path), hold_folder(tmp_path):
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ('kind', 'is_network'),
    [('ext4', False), ('overlay', False), ('tmpfs', False), ('fuseblk', False)]
    + [(kind, True) for kind in ('nfs4', 'nfs', 'cifs', 'fuse.sshfs', 'lustre', 'ceph', '9p')],
)
def test_file_systems_are_known_by_the_deepest_mount(tmp_path, monkeypatch, kind, is_network):
    mounts = tmp_path / 'mountinfo'
    there = f'{tmp_path}/a\\040b'
    mounts.write_text(
        '27 1 8:1 / / rw shared:1 - ext4 /dev/root rw\n'
        f'30 27 0:5 / {there} rw - {kind} host:/x rw\n'
        f'31 27 0:5 / {there}/c/other rw - xfs x rw\n'
    )
    monkeypatch.setattr(lock, '_MOUNTS', mounts)
    assert lock._is_on_network(tmp_path / 'a b/c') == is_network
    assert not lock._is_on_network(tmp_path / 'a')
