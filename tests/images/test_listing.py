from __future__ import annotations

import os
from pathlib import Path

import pytest

from cuts3d_mm.images.listing import ImageList, read_exclusions, write_exclusions

IMAGES = ImageList(Path('images'), ('#c.png', 'a/x.png', 'b.png', 'd e.png'))


def test_comments_and_empty_lines_are_skipped_and_names_are_kept_as_they_are(tmp_path):
    lines = b'\xef\xbb\xbf# marked by hand\r\n\r\na/x.png\r\n  \n./b.png\n./#c.png\nd e.png\n'
    (tmp_path / 'bad.txt').write_bytes(lines)
    assert read_exclusions(tmp_path / 'bad.txt') == frozenset(IMAGES.names)


def test_what_is_written_is_read_again(tmp_path):
    write_exclusions(tmp_path / 'bad.txt', IMAGES.names)
    assert read_exclusions(tmp_path / 'bad.txt') == frozenset(IMAGES.names)


def test_a_name_that_is_not_utf8_is_that_of_the_listing(tmp_path):
    (tmp_path / 'bad.txt').write_bytes(b'\xff.png\n')
    assert read_exclusions(tmp_path / 'bad.txt') == {r'\xff.png'}


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / 'bad.txt').write_bytes(b'\x89PNG\0\0')
    with pytest.raises(ValueError, match='--exclude must be a text file'):
        read_exclusions(tmp_path / 'bad.txt')


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / 'pipe')
    with pytest.raises(OSError, match='it is a named pipe'):
        read_exclusions(tmp_path / 'pipe')


def test_images_are_left_out_in_their_order():
    left = IMAGES.without({'b.png'})
    assert left == ImageList(IMAGES.root, ('#c.png', 'a/x.png', 'd e.png'))
    assert IMAGES.without(frozenset()) == IMAGES


def test_names_that_are_not_there_are_refused_three_of_them_named():
    unknown = {f'{number}.png' for number in range(5)}
    with pytest.raises(ValueError, match=r'5 of 6 are not: 0.png, 1.png, 2.png and 2 others$'):
        IMAGES.without({*unknown, 'b.png'})


def test_a_list_of_all_images_is_refused():
    with pytest.raises(ValueError, match='must leave an image, it names all 4'):
        IMAGES.without({*IMAGES.names})
