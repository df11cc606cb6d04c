from __future__ import annotations

import os
import sys

import pytest

from cuts3d_mm.files.paths import BadName, open_regular, path_inside, path_to_write, shown

CLIMBING = [
    '',
    '.',
    '..',
    '/',
    '../a.png',
    'a/../../b.png',
    'a/..',
    '/etc/a.png',
    '//server/a.png',
    '..\\a.png',
    'a\\..\\..\\b.png',
    '\\\\server\\a.png',
    'C:\\a.png',
    'C:/a.png',
    'c:a.png',
    'a//b.png',
    './a.png',
    'a/./b.png',
    'a/',
    'a.png\x00.png',
    'a\nb.png',
    'a\x1b[31m.png',
    'a\x85b.png',
    'a' * 300,
    'é' * 150,
    '/'.join(['abcdefgh'] * 600),
    'a\udce9.png',
    'a\ud800.png',
]


@pytest.mark.parametrize('name', CLIMBING)
def test_names_that_leave_their_folder_are_refused(tmp_path, name):
    with pytest.raises(BadName) as error:
        path_inside(tmp_path, name)
    str(error.value).encode()  # can be printed anywhere
    assert '\x1b' not in str(error.value) and '\n' not in str(error.value)


@pytest.mark.parametrize(
    'name',
    ['a.png', 'a/b/c.png', 'a b#1?.png', '...png', 'é/日本.png', 'a' * 255, '12:30.png', '~/a'],
)
def test_ordinary_names_stay_as_they_are(tmp_path, name):
    assert path_inside(tmp_path, name) == tmp_path / name


def test_links_may_point_within_the_folder_but_not_out_of_it(tmp_path):
    root = tmp_path / 'root'
    (root / 'real').mkdir(parents=True)
    (root / 'inside').symlink_to(root / 'real')
    (root / 'outside').symlink_to(tmp_path)
    (root / 'file.png').symlink_to('/etc/hostname')
    (root / 'loop').symlink_to('loop')
    assert path_inside(root, 'inside/a.png') == root / 'inside/a.png'
    for name in ('outside/a.png', 'file.png'):
        with pytest.raises(BadName, match='a link leads out of'):
            path_inside(root, name)
    assert path_inside(root, 'loop') == root / 'loop'  # leads nowhere


def test_a_folder_that_is_a_link_itself_is_a_folder(tmp_path):
    (tmp_path / 'real').mkdir()
    (tmp_path / 'link').symlink_to('real')
    assert path_inside(tmp_path / 'link', 'a.png') == tmp_path / 'link/a.png'


def test_folders_on_the_way_to_a_new_file_are_made(tmp_path):
    path_to_write(tmp_path, 'a/b/c.png').write_bytes(b'')
    with pytest.raises(BadName, match='needs a folder where there is a file'):
        path_to_write(tmp_path, 'a/b/c.png/d.png')
    with pytest.raises(BadName, match='there is a folder of that name'):
        path_to_write(tmp_path, 'a/b')


@pytest.mark.skipif(sys.platform == 'win32', reason='has no named pipes in folders')
def test_pipes_folders_and_devices_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / 'pipe')
    for path, kind in ((tmp_path / 'pipe', 'pipe'), (tmp_path, 'folder'), ('/dev/zero', 'device')):
        with pytest.raises(OSError, match=f'must be a regular file, it is a.* {kind}'):
            open_regular(path)
    (tmp_path / 'file').write_bytes(b'content')
    with open_regular(tmp_path / 'file') as file:
        assert file.read() == b'content'


def test_a_pipe_that_takes_the_place_of_a_file_does_not_stop_the_reader(tmp_path, monkeypatch):
    (tmp_path / 'file').write_bytes(b'')
    os.mkfifo(tmp_path / 'pipe')
    before = os.stat(tmp_path / 'file')
    monkeypatch.setattr(os, 'stat', lambda path: before)
    with pytest.raises(OSError, match='named pipe'):
        open_regular(tmp_path / 'pipe')


def test_bytes_that_are_no_utf8_are_shown_by_their_numbers():
    assert shown(os.fsdecode(b'caf\xe9.png')) == 'caf\\xe9.png'
    assert shown('\ud800') == '\\ud800' and shown('é#/.png') == 'é#/.png'
