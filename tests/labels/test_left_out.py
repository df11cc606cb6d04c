from __future__ import annotations

import json
import pickle
import re

import numpy as np
import pytest

from cuts3d_mm.labels.coco import read_coco
from cuts3d_mm.labels.coco_json import read_ground_truth
from cuts3d_mm.labels.record import ImageRecord, InstanceRecord, encode_instance
from cuts3d_mm.labels.store import write_store
from cuts3d_mm.labels.table import LabelTable

RECTANGLE = [[20, 30, 60, 30, 60, 70, 20, 70]]
BOX = [20, 30, 40, 40]
FLAT = [[50.5, 20.25, 50.5, 20.25, 52.5, 20.25, 52.5, 20.25]]


def coco_file(path, *changes, area=1600):
    """A file of one image with a rectangle for each dict of changes."""
    image = {'id': 1, 'file_name': '0.png', 'height': 96, 'width': 128}
    plain = {'image_id': 1, 'category_id': 1, 'bbox': BOX, 'segmentation': RECTANGLE}
    annotations = [
        {'id': number, **plain, 'area': area, 'iscrowd': 0, **change}
        for number, change in enumerate(changes, 1)
    ]
    categories = [{'id': 1, 'name': 'box'}]
    content = {'images': [image], 'annotations': annotations, 'categories': categories}
    path.write_text(json.dumps(content))
    return path


def readers(path):
    """Number of objects that each reader finds."""
    (record,) = read_coco(path)
    truth = read_ground_truth(path, needs_masks=True)
    return len(record.instances), len(LabelTable(path)[0].instances), len(truth['annotations'])


@pytest.mark.parametrize(
    'odd',
    [
        {'segmentation': FLAT, 'bbox': [50.5, 20.25, 2, 0], 'area': 0},
        {'segmentation': [[20, 30, 60, 70]]},
        {'segmentation': {'size': [96, 128], 'counts': [96 * 128]}},
    ],
)
def test_an_object_without_area_is_left_out_by_every_reader_and_counted(tmp_path, odd):
    path = coco_file(tmp_path / 'a.json', {}, odd, {})
    with pytest.warns(UserWarning, match='1 object without area, left out') as said:
        assert readers(path) == (2, 2, 2)
    assert len(said) == 3


def test_labels_that_are_opened_again_say_again_what_was_left_out(tmp_path):
    path = coco_file(tmp_path / 'a.json', {}, {'segmentation': FLAT})
    for _ in range(2):
        with pytest.warns(UserWarning, match='1 object without area'):
            LabelTable(path)


def test_an_instance_without_area_in_a_store_never_reaches_training(tmp_path):
    whole = encode_instance(np.ones((6, 8), bool), None, 1.0)
    empty = InstanceRecord((2.0, 2.0, 2.0, 0.0), 0, b'`1', 1.0, None)
    write_store(tmp_path / 'labels', [ImageRecord('0.png', (6, 8), (whole, empty))])
    with pytest.warns(UserWarning, match='1 object without area'):
        table = LabelTable(tmp_path / 'labels')
    assert table[0].instances == (whole,) and table.num_instances.tolist() == [1]


def test_boxes_that_contradict_their_masks_come_from_the_masks_with_one_warning(tmp_path):
    corners, shares = {'bbox': [20, 30, 60, 70]}, {'bbox': [0.16, 0.31, 0.31, 0.42]}
    path = coco_file(tmp_path / 'a.json', corners, shares, {'bbox': [20.4, 29.7, 39, 41]})
    with pytest.warns(UserWarning, match='2 objects whose box contradicts the mask') as said:
        (record,) = read_coco(path)
    assert len(said) == 1
    assert [one.box_xywh for one in record.instances] == [
        tuple(BOX), tuple(BOX), (20.4, 29.7, 39, 41)
    ]  # fmt: skip
    with pytest.warns(UserWarning, match='2 objects whose box'):
        boxes = [one['bbox'] for one in read_ground_truth(path)['annotations']]
    assert boxes == [list(BOX), list(BOX), [20.4, 29.7, 39, 41]]


def test_crowds_are_left_out_and_counted_or_are_objects(tmp_path):
    path = coco_file(tmp_path / 'a.json', {}, {'iscrowd': 1}, {'iscrowd': True})
    with pytest.warns(UserWarning, match='2 objects marked iscrowd, left out as objects'):
        (record,) = read_coco(path)
    assert len(record.instances) == 1
    assert len(next(read_coco(path, 'objects')).instances) == 3
    assert len(LabelTable(path, 'objects')[0].instances) == 3
    truth = read_ground_truth(path, crowd='objects')
    assert [one['iscrowd'] for one in truth['annotations']] == [0, 0, 0]
    with pytest.raises(ValueError, match="crowd must be one of .* got 'yes'"):
        LabelTable(path, 'yes')


def test_a_file_of_nothing_but_crowds_is_an_error_that_names_the_remedy(tmp_path, cuts3d):
    path = coco_file(tmp_path / 'a.json', {'iscrowd': 1}, {'iscrowd': 1})
    for read in (lambda: list(read_coco(path)), lambda: read_ground_truth(path)):
        with pytest.raises(ValueError, match=r'iscrowd in all 2, .*--crowd objects'):
            read()
    code, _, err = cuts3d('describe', path)
    assert code == 2 and '--crowd objects' in err
    code, out, _ = cuts3d('describe', path, '--crowd', 'objects')
    assert code == 0 and re.search(r'instances +\| +2 ', out)


def test_describe_says_what_is_left_out(tmp_path, cuts3d):
    path = coco_file(tmp_path / 'a.json', {}, {'iscrowd': 1}, {'segmentation': FLAT})
    code, out, err = cuts3d('describe', path)
    assert code == 0, err
    assert re.search(r'instances +\| +1 ', out)
    assert f'{path}: 1 object marked iscrowd' in err and '1 object without area' in err


def test_the_area_of_annotated_objects_may_be_missing(tmp_path):
    path = coco_file(tmp_path / 'a.json', {}, area=None)
    assert read_ground_truth(path)['annotations'][0]['area'] == 1600


def test_an_object_without_a_box_has_that_of_its_mask(tmp_path):
    corner = {'bbox': None, 'segmentation': [[0, 0, 2, 0, 2, 2, 0, 2]]}
    path = coco_file(tmp_path / 'a.json', {'bbox': None}, corner, area=None)
    boxes = [one['bbox'] for one in read_ground_truth(path)['annotations']]
    assert boxes == [BOX, [0, 0, 2, 2]]
    assert [list(one.box_xywh) for one in next(read_coco(path)).instances] == boxes


def test_a_pickled_table_refuses_labels_that_have_changed(tmp_path):
    path = coco_file(tmp_path / 'a.json', {}, {})
    pickled = pickle.dumps(LabelTable(path))
    assert len(pickle.loads(pickled)[0].instances) == 2
    path.write_text(path.read_text() + ' ')
    (tmp_path / 'a.unpacked.arrow').unlink()
    with pytest.raises(ValueError, match='its files have changed'):
        pickle.loads(pickled)


def test_no_damaged_byte_of_unpacked_labels_changes_a_label(tmp_path):
    rng = np.random.default_rng(0)
    path = coco_file(tmp_path / 'a.json', {}, {})
    expected = LabelTable(path)[0]
    unpacked = tmp_path / 'a.unpacked.arrow'
    whole = unpacked.read_bytes()
    for _ in range(100):
        damaged = bytearray(whole)
        damaged[int(rng.integers(len(whole)))] ^= 1 << int(rng.integers(8))
        unpacked.write_bytes(damaged)
        table = LabelTable(path)
        assert table[0] == expected and table.num_instances.tolist() == [2]
