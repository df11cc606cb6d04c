"""Annotation files in other forms than COCO's, by every reader."""

from __future__ import annotations

import json
import warnings
from contextlib import suppress

import pytest

from cuts3d_mm.labels.coco import read_coco
from cuts3d_mm.labels.coco_json import read_entries, read_ground_truth
from cuts3d_mm.labels.dialects import in_plain_form

RECTANGLE, BOX = [20, 30, 60, 30, 60, 70, 20, 70], [20, 30, 40, 40]


def write(path, image=None, keys_left_out=(), text=str, **changes):
    """Eight objects in four images, each changed; a change is a value, or a function of the id."""
    images = [
        {'id': n, 'file_name': f'{n}.png', 'height': 96, 'width': 128, **(image or {})}
        for n in range(1, 5)
    ]
    if 'id' in (image or {}):
        for n, one in enumerate(images, 1):
            one['id'] = image['id'](n)
    annotations = []
    for n in range(8):
        one = {'id': n + 1, 'image_id': n // 2 + 1, 'category_id': 1, 'iscrowd': 0, 'area': 1600,
               'bbox': BOX, 'segmentation': [RECTANGLE]}  # fmt: skip
        one |= {k: v(one[k]) if callable(v) else v for k, v in changes.items()}
        annotations.append({k: v for k, v in one.items() if k not in keys_left_out})
    content = {
        'images': images,
        'annotations': annotations,
        'categories': [{'id': 1, 'name': 'x'}],
    }
    path.write_text(text(json.dumps(content)), encoding='utf-8')
    return path


def readers(path):
    records = [len(one.instances) for one in read_coco(path)]
    truth = read_ground_truth(path, needs_masks=True, needs_classes=True)
    counts = [len([a for a in truth['annotations'] if a['image_id'] == i['id']])
              for i in truth['images']]  # fmt: skip
    assert records == counts
    return records


PLAIN_FORMS = {
    'ids as floats': {'id': float, 'image_id': float, 'category_id': 1.0},
    'ids as text': {'id': str, 'image_id': str, 'category_id': '1', 'image': {'id': str}},
    'ids as words': {'id': 'a{}'.format, 'image_id': 'i{}'.format, 'image': {'id': 'i{}'.format}},
    'ids of images alone as text': {'image': {'id': str}},
    'no ids of objects': {'keys_left_out': ('id',)},
    'flags as floats': {'iscrowd': 0.0},
    'flags as null': {'iscrowd': None, 'ignore': None},
    'flags as text': {'iscrowd': '0'},
    'no area': {'keys_left_out': ('area',)},
    'area as text': {'area': '1600'},
    'area of -1': {'area': -1},
    'no box': {'keys_left_out': ('bbox',)},
    'empty box': {'bbox': lambda box: []},
    'box as text': {'bbox': lambda box: [str(one) for one in box]},
    'flat polygon': {'segmentation': RECTANGLE},
    'list of points': {'segmentation': [[[20, 30], [60, 30], [60, 70], [20, 70]]]},
    'coordinates as text': {'segmentation': [[str(one) for one in RECTANGLE]]},
    'sizes as floats': {'image': {'height': 96.0, 'width': 128.0}},
    'sizes as text': {'image': {'height': '96', 'width': '128'}},
    'null score': {'score': None},
    'byte order mark': {'text': '\ufeff{}'.format},
}


@pytest.mark.parametrize('form', PLAIN_FORMS)
def test_forms_of_one_meaning_are_read_as_cocos(tmp_path, form):
    with warnings.catch_warnings():
        warnings.filterwarnings('error', category=UserWarning)
        path = write(tmp_path / 'a.json', **{'score': 1.0, **PLAIN_FORMS[form]})
        assert readers(path) == [2, 2, 2, 2]
        assert all(one.box_xywh == tuple(BOX) for r in read_coco(path) for one in r.instances)


@pytest.mark.parametrize(
    ('changes', 'counts', 'said'),
    [
        ({'image_id': lambda n: n if n < 3 else 99}, [2, 2, 0, 0], '4 objects whose image is not'),
        ({'bbox': [60, 70, -40, -40]}, [2, 2, 2, 2], '8 objects whose box contradicts the mask'),
    ],
)
def test_what_has_no_meaning_is_left_out_and_counted(tmp_path, changes, counts, said):
    path = write(tmp_path / 'a.json', **changes)
    with pytest.warns(UserWarning, match=said):
        assert readers(path) == counts


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'segmentation': [[]]}, 'must have a mask with an area, 8 of 8 have none'),
        ({'segmentation': None}, 'must have a segmentation, all 8 have none; .* boxes alone'),
        ({'image_id': 99}, r'annotations\[0\].image_id must be the id of an image, got 99'),
        ({'segmentation': [[1, 2, 3, 4, 5, 6, 7]]}, r'annotations\[0\].*an even number'),
        ({'id': 1}, r'annotations\[1\].id must be unique'),
        ({'area': float('nan')}, r'must be finite, annotations\[0\].area: got NaN at byte \d+ of'),
        ({'bbox': [1, float('-inf'), 1, 1]}, r'annotations\[0\].bbox\[1\]: got -Infinity at byte'),
        ({'id': lambda n: 2**63 + n}, r'annotations\[0\].id must be int <= 9007199254740992'),
        ({'area': 10**400}, r'annotations\[0\].area must be a finite number of 64 bits'),
        ({'text': lambda text: text[:-1] + ', "images": []}'}, "'images' must be there once"),
        (
            {'text': lambda text: text[:-9]},
            'must be whole JSON in UTF-8: input data was truncated',
        ),
        (
            {'text': lambda text: text.replace('"area"', 'area', 1)},
            r'annotations\[0\].iscrowd: got',
        ),
        ({'text': lambda _: '{"a": ' + '[' * 10**5}, 'must not be nested so deep'),
    ],
)
def test_damage_is_refused_with_its_place(tmp_path, changes, message):
    path = write(tmp_path / 'a.json', **changes)
    for read in (lambda: list(read_coco(path)), lambda: read_ground_truth(path, needs_masks=True)):
        with pytest.raises(ValueError, match=message):
            read()


def test_more_than_a_few_objects_without_a_mask_are_refused(tmp_path):
    path = write(tmp_path / 'a.json')
    content = json.loads(path.read_text())
    plain = content['annotations'][0]
    empty = {**plain, 'segmentation': []}
    for count, is_fine in ((10, True), (11, False)):
        objects = [*[plain] * 500, *[empty] * count]
        content['annotations'] = [{**one, 'id': n} for n, one in enumerate(objects)]
        path.write_text(json.dumps(content))
        if is_fine:
            with pytest.warns(UserWarning, match='10 objects without a mask, left out'):
                assert sum(readers(path)) == 500
        else:
            with pytest.raises(ValueError, match='11 of 511 have none; correct the file'):
                list(read_coco(path))


def test_boxes_alone_score_boxes_alone(cuts3d, tmp_path):
    labels = write(tmp_path / 'labels.json')
    boxes = write(tmp_path / 'boxes.json', keys_left_out=('segmentation', 'area'))
    code, out, err = cuts3d('score', labels, boxes, '--json', tmp_path / 'figures.json')
    assert code == 0, err
    scores = json.loads((tmp_path / 'figures.json').read_text())
    assert scores.keys() == {'bbox'} and scores['bbox']['AR100'] > 0
    code, _, err = cuts3d('score', labels, boxes, '--gate', '0-100')
    assert code == 2 and 'holds boxes alone' in err


def test_a_long_string_that_is_cut_off_is_searched_once(tmp_path):
    path = tmp_path / 'bad.json'
    path.write_text('{"info":"' + '\\"' * 400_000 + '\x01"}')  # hours, if from each quote
    with pytest.raises(ValueError, match='whole JSON in UTF-8, info: '):
        list(read_entries(path, ('images', 'annotations')))


def test_ids_that_are_words_stay_apart():
    ids = ['1_2', '12', '20240101123456789012', '12.0', 'a']
    found = [in_plain_form('images', 0, {'id': one})['id'] for one in ids]
    assert found[1] == found[3] == 12 and all(isinstance(one, int) for one in found)
    assert len(set(found)) == 4


def test_an_entry_that_is_too_deep_where_it_is_read_is_refused_by_name(tmp_path):
    path = write(tmp_path / 'a.json', other='[')
    path.write_text(path.read_text().replace('"["', '[' * 700 + ']' * 700))
    first = next(read_entries(path, ('annotations',)))

    def read(frames):
        return read(frames - 1) if frames else first.read(dict)

    with suppress(ValueError):  # later versions of Python read it
        assert read(300)['other']
