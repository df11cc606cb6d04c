from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image, features

from cuts3d_mm.images.listing import ImageList, list_images, read_exclusions, write_exclusions
from cuts3d_mm.images.reading import ImageFailure, read_named_image

IMAGES = ImageList(Path('images'), ('#c.png', 'a/x.png', 'b.png', 'd e.png'))


def save_image(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', (33, 20)).save(path)
    return path


def test_a_single_image_is_a_list_of_itself(tmp_path):
    for name in ('a.png', 'b.JPG'):
        save_image(tmp_path / name)
    assert list_images(tmp_path / 'b.JPG') == ImageList(tmp_path, ('b.JPG',))


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


def test_folder_is_searched_recursively_and_sorted(tmp_path):
    for name in ('b/x.png', 'a/x.png', 'z.JPG', 'a/notes.txt'):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    images = list_images(tmp_path)
    assert images.names == ('a/x.png', 'b/x.png', 'z.JPG') and images.root == tmp_path


def test_text_file_lists_paths_relative_to_itself(tmp_path):
    (tmp_path / 'list.txt').write_text('b/x.png\n\na/x.png\n')
    assert list_images(tmp_path / 'list.txt').names == ('a/x.png', 'b/x.png')


def test_paths_outside_share_their_deepest_folder(tmp_path):
    (tmp_path / 'lists').mkdir()
    paths = f'{tmp_path}/data/a/x.png\n{tmp_path}/data/b/x.png\n'
    (tmp_path / 'lists/list.txt').write_text(paths)
    images = list_images(tmp_path / 'lists/list.txt')
    assert images.root == tmp_path / 'data' and images.names == ('a/x.png', 'b/x.png')


@pytest.mark.parametrize(
    ('name', 'text', 'message'),
    [
        ('empty.txt', '\n', 'must hold at least one image'),
        ('twice.txt', 'a.png\na.png\n', 'a.png more than once'),
        ('x.json', '{}', 'must be a COCO JSON'),
        ('x.json', 'nonsense', 'must be a COCO JSON'),
    ],
)
def test_wrong_lists_are_refused(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        list_images(tmp_path / name)


def test_a_list_as_find_writes_it_has_plain_names(tmp_path):
    (tmp_path / 'list.txt').write_bytes(b'\xef\xbb\xbf./b/x.png\r\n./a/x\xe2\x80\xa8y.png\r\n')
    names = list_images(tmp_path / 'list.txt').names
    assert names == ('a/x\u2028y.png', 'b/x.png')


def test_one_climbing_line_does_not_move_the_folder_of_the_others(tmp_path):
    (tmp_path / 'list.txt').write_text('a/x.png\n../../secret.png\n/etc/secret.png\n')
    images = list_images(tmp_path / 'list.txt')
    assert images.root == tmp_path
    assert images.names == ('../../secret.png', '/etc/secret.png', 'a/x.png')


def test_absolute_paths_in_the_folder_of_the_list_are_relative_to_it(tmp_path):
    (tmp_path / 'list.txt').write_text(f'{tmp_path}/a/x.png\nb/x.png\n')
    assert list_images(tmp_path / 'list.txt').names == ('a/x.png', 'b/x.png')


def test_a_long_list_with_a_repeated_name_is_refused(tmp_path):
    names = [f'{number:05d}.png' for number in range(20000)]
    (tmp_path / 'list.txt').write_text('\n'.join([*names, names[-1]]))
    with pytest.raises(ValueError, match='got 19999.png more than once'):
        list_images(tmp_path / 'list.txt')


def test_a_folder_that_cannot_be_read_is_listed(tmp_path, monkeypatch):
    save_image(tmp_path / 'a/x.png')
    save_image(tmp_path / 'closed/x.png')
    monkeypatch.setattr(os, 'scandir', refusing(os.scandir))
    monkeypatch.setattr(os, 'access', lambda path, mode: 'closed' not in str(path))
    images = list_images(tmp_path)
    assert images.names == ('a/x.png', 'closed')
    with pytest.raises(ImageFailure, match='folder cannot be read: permission denied'):
        read_named_image(tmp_path, 'closed')


def refusing(scandir):
    def scan(path):
        if str(path).endswith('closed'):  # as for a user who is not root
            raise PermissionError(13, 'Permission denied')
        return scandir(path)

    return scan


def test_a_missing_source_is_no_list(tmp_path):
    with pytest.raises(ValueError, match='IMAGES must be a folder, an image, a text file'):
        list_images(tmp_path / 'nothing')


def test_limit_keeps_the_first_by_name(tmp_path):
    (tmp_path / 'list.txt').write_text('c.png\na.png\nb.png\n')
    images = list_images(tmp_path / 'list.txt')
    assert images.first(2).names == ('a.png', 'b.png') and images.first(None) == images
    with pytest.raises(ValueError, match='limit must be at least 1'):
        images.first(0)


def test_pictures_that_cannot_be_decoded_are_counted_by_suffix(tmp_path, caplog):
    for name in ('a.jfif', 'b.HEIC', 'sub/c.heic', 'd.svg', 'notes.txt'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert list_images(tmp_path).names == ('a.jfif',)
    assert 'left out pictures that we do not decode: 2 .heic, 1 .svg;' in caplog.text
    (tmp_path / 'a.jfif').unlink()
    with pytest.raises(ValueError, match='found none in .* but .*: 2 .heic, 1 .svg'):
        list_images(tmp_path)


def test_avif_is_listed_where_pillow_decodes_it(tmp_path):
    Image.new('RGB', (8, 6)).save(tmp_path / 'a.png')
    names = ('a.png',)
    if features.check('avif'):
        Image.new('RGB', (8, 6)).save(tmp_path / 'a.avif')
        names = ('a.avif', 'a.png')
    assert list_images(tmp_path).names == names
    assert read_named_image(tmp_path, names[0]).shape == (6, 8, 3)
