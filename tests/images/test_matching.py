from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from cuts3d_mm.images.listing import list_images
from cuts3d_mm.images.matching import match_names

TRUTH = Path('truth.json')


@pytest.mark.parametrize(
    ('annotated', 'names', 'expected'),
    [
        (['1.jpg', '9.jpg'], ['cats/1.jpg', 'cats/2.jpg'], {'1.jpg': 'cats/1.jpg'}),
        (['cats/1.jpg'], ['cats/1.jpg', 'dogs/1.jpg'], {'cats/1.jpg': 'cats/1.jpg'}),
        (['val/1.jpg'], ['1.jpg'], {'val/1.jpg': '1.jpg'}),
        (['1.jpg', 'old/1.jpg'], ['1.jpg'], {'1.jpg': '1.jpg'}),
        (['birds/1.jpg'], ['cats/1.jpg', 'dogs/1.jpg'], {}),
        (['cats\\1.jpg'], ['cats/1.jpg', 'dogs/1.jpg'], {'cats\\1.jpg': 'cats/1.jpg'}),
        (['C:\\me\\1.jpg'], ['cats/1.jpg'], {'C:\\me\\1.jpg': 'cats/1.jpg'}),
        (['1.jpg'], ['1.JPG'], {'1.jpg': '1.JPG'}),
        (['1.jpg'], ['a/1.JPG', 'b/1.JPG'], {}),
        (['1a2b3c4d-x.jpg'], ['x.jpg', 'y.jpg'], {'1a2b3c4d-x.jpg': 'x.jpg'}),
        (['x_jpg.rf.0123456789abcdef.jpg'], ['x.jpg'], {'x_jpg.rf.0123456789abcdef.jpg': 'x.jpg'}),
        (['x_jpg.rf.01234567.jpg', 'x_jpg.rf.89abcdef.jpg'], ['x.jpg'], {}),
        (['x.png'], ['x.jpg'], {'x.png': 'x.jpg'}),
        (['x.png'], ['x.jpg', 'x.jpeg'], {}),
        (['x.jpg'], ['x_jpg.rf.0123456789.jpg'], {'x.jpg': 'x_jpg.rf.0123456789.jpg'}),
        (['20240101-1.jpg'], ['20240102-1.jpg'], {}),  # two days, not two uploads
        (['img_v1.5'], ['img_v1.png'], {}),
    ],
)
def test_images_are_found_by_the_first_rule_with_a_unique_result(annotated, names, expected):
    assert match_names(annotated, names, TRUTH) == expected


@pytest.mark.parametrize(
    ('annotated', 'names', 'message'),
    [
        (['1.jpg'], ['cats/1.jpg', 'dogs/1.jpg'], r'1\.jpg can be cats/1\.jpg or dogs/1\.jpg'),
        (['cats/1.jpg', 'dogs/1.jpg'], ['1.jpg'], r'cats/1\.jpg can be 1\.jpg, and 2 of the'),
    ],
)
def test_a_name_that_could_mean_several_images_is_refused(annotated, names, message):
    with pytest.raises(ValueError, match=message):
        match_names(annotated, names, TRUTH)


def test_the_rule_that_found_a_name_is_said(caplog):
    match_names(['a/1.jpg', '2.jpg'], ['1.jpg', '2.JPG'], TRUTH)
    said = (
        'truth.json: of 2 image names, found 1 by their last part, 1 by their last part in lower'
    )
    assert said in caplog.text


@pytest.mark.parametrize(
    ('json_at', 'image_at', 'written'),
    [
        ('gt.json', 'images/0.png', '0.png'),
        ('gt.json', 'gt/0.png', '0.png'),
        ('annotations/instances_val2017.json', 'val2017/0.png', '0.png'),
        ('annotations/instances_val2017.json', 'images/val2017/0.png', '0.png'),
        ('annotations/gt.json', 'images/0.png', 'images/0.png'),
        ('gt.json', 'images/0.png', 'images\\0.png'),
        ('gt.json', '0.PNG', 'upload/0.png'),
    ],
)
def test_the_images_of_a_coco_json_are_found_where_tools_put_them(
    tmp_path, json_at, image_at, written
):
    for path in (tmp_path / json_at, tmp_path / image_at):
        path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', (9, 8)).save(tmp_path / image_at)
    (tmp_path / json_at).write_text(json.dumps({'images': [{'file_name': written}]}))
    images = list_images(tmp_path / json_at)
    assert images.root / images.names[0] == tmp_path / image_at


def test_a_coco_json_whose_images_are_elsewhere_ends_at_once_and_takes_their_folder(tmp_path):
    (tmp_path / 'elsewhere').mkdir()
    Image.new('RGB', (9, 8)).save(tmp_path / 'elsewhere/0.png')
    (tmp_path / 'gt.json').write_text(json.dumps({'images': [{'file_name': '0.png'}]}))
    with pytest.raises(ValueError, match=r'none of the first 1, such as 0.png.*; copy it into '):
        list_images(tmp_path / 'gt.json')
    assert list_images(tmp_path / 'gt.json', tmp_path / 'elsewhere').names == ('0.png',)
    with pytest.raises(ValueError, match='--images is the folder of the images of a COCO JSON'):
        list_images(tmp_path / 'elsewhere', tmp_path / 'elsewhere')
