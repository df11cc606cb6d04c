from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from helpers import official_samples as samples
from pycocotools.coco import COCO

from cuts3d_mm.evaluation.conversion import prepare
from cuts3d_mm.evaluation.datasets import EVALUATION_SETS

COCO_PROBLEMS = {
    'box outside of the image': 2,
    'box without area': 2,
    'image is missing': 1,
    'object of an image that is not used': 4,
}
VOC_PROBLEMS = {
    'box outside of the image': 2,
    'annotation without a box': 2,
    'image is missing': 1,
    'broken XML': 1,
    'annotation file is missing': 1,
}
# name -> images, objects, ignored, clipped, what is left out
EXPECTED = {
    **dict.fromkeys(('coco', 'lvis', 'objects365', 'uvo'), (2, 4, 0, 2, COCO_PROBLEMS)),
    'coco20k': (
        2, 4, 0, 2,
        {
            'box outside of the image': 2,
            'box without area': 2,
            'listed image is not annotated': 1,
        },
    ),
    **dict.fromkeys(('voc', 'clipart', 'comic', 'watercolor'), (2, 4, 0, 2, VOC_PROBLEMS)),
    'kitti': (
        2, 4, 2, 2,
        {
            'box outside of the image': 2,
            'annotation without a box': 2,
            'image is missing': 1,
        },
    ),
    'openimages': (
        2, 4, 2, 2,
        {
            'box without area': 2,
            'annotation without a box': 2,
            'image is missing': 1,
            'object of an image that is not used': 5,
        },
    ),
    'openimages-masks': (2, 2, 0, 0, {'mask is missing or cannot be read': 2}),
}  # fmt: skip


def converted(name, tmp_path):
    samples.WRITERS[name](tmp_path / 'src')
    source = EVALUATION_SETS[name].open_source(tmp_path / 'src')
    out = tmp_path / f'{name}.json'
    return prepare(source, out, {}), json.loads(out.read_text()), out


def test_every_set_of_the_catalog_has_a_sample():
    assert set(EXPECTED) == set(samples.WRITERS) == set(EVALUATION_SETS)


@pytest.mark.parametrize('name', EXPECTED)
def test_broken_parts_are_on_record_and_the_rest_is_converted(name, tmp_path):
    done, content, out = converted(name, tmp_path)
    images, objects, crowds, clipped, problems = EXPECTED[name]
    assert (done.images, done.objects, done.crowds, done.clipped) == (
        images, objects, crowds, clipped,
    )  # fmt: skip
    assert dict(done.problems) == problems
    lines = [json.loads(x) for x in out.with_suffix('.problems.jsonl').read_text().splitlines()]
    assert Counter(line['reason'] for line in lines) == problems
    assert len(content['images']) == images and len(content['annotations']) == objects + crowds


@pytest.mark.parametrize('name', EXPECTED)
def test_result_is_coco_of_one_class_with_boxes_inside_existing_images(name, tmp_path):
    _, content, out = converted(name, tmp_path)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(out))
    assert [c['name'] for c in content['categories']] == ['object']
    folder = EVALUATION_SETS[name].open_source(tmp_path / 'src').image_folder
    for image in content['images']:
        assert (folder / image['file_name']).is_file()
        assert (image['height'], image['width']) == samples.IMAGE_HW
    for one in content['annotations']:
        left, top, width, height = one['bbox']
        assert 0 <= left < left + width <= 60 and 0 <= top < top + height <= 40
        assert one['area'] > 0 and one['category_id'] == 1
        if EVALUATION_SETS[name].has_masks:
            assert coco.annToMask(one).shape == samples.IMAGE_HW


def first_box(name, tmp_path):
    return converted(name, tmp_path)[1]['annotations'][0]['bbox']


@pytest.mark.parametrize('name', ['coco', 'voc', 'kitti'])
def test_boxes_count_pixels_from_zero(name, tmp_path):
    assert first_box(name, tmp_path) == [5, 6, 20, 10]


def test_boxes_in_parts_of_the_image_become_pixels(tmp_path):
    assert first_box('openimages', tmp_path) == [6, 8, 24, 16]


def test_masks_of_another_size_are_brought_to_the_image(tmp_path):
    assert first_box('openimages-masks', tmp_path) == [6, 8, 24, 16]


def test_an_image_of_another_size_than_annotated_is_left_out(tmp_path):
    src = tmp_path / 'src'
    samples.write_image(src / 'val2017' / 'a.jpg')
    content = samples.coco_content([{'file_name': 'a.jpg'}], swapped=True)
    samples.write_json(src / 'annotations' / 'instances_val2017.json', content)
    done = prepare(EVALUATION_SETS['coco'].open_source(src), tmp_path / 'x.json', {})
    assert done.images == 0
    assert done.problems['image is of another size than annotated'] == 1


def test_a_truncated_json_is_on_record(tmp_path):
    samples.write_coco(tmp_path / 'src')
    path = tmp_path / 'src' / 'annotations' / 'instances_val2017.json'
    path.write_text(path.read_text()[:-400])
    done = prepare(EVALUATION_SETS['coco'].open_source(tmp_path / 'src'), tmp_path / 'x.json', {})
    assert done.images == 0
    assert any(reason.startswith('broken JSON') for reason in done.problems)
    json.loads((tmp_path / 'x.json').read_text())


def test_odd_entries_are_on_record_and_the_rest_is_converted(tmp_path):
    samples.write_coco(tmp_path / 'src')
    path = tmp_path / 'src' / 'annotations' / 'instances_val2017.json'
    content = json.loads(path.read_text())
    content['images'] += [{'id': 1}, 7, {'id': 9, 'file_name': 'x.jpg', 'height': 'a', 'width': 1}]
    content['annotations'] += ['text', {'bbox': [0, 0, 5, 5]}]
    source = EVALUATION_SETS['coco'].open_source(tmp_path / 'src')
    before = prepare(source, tmp_path / 'before.json', {})
    path.write_text(json.dumps(content))
    done = prepare(source, tmp_path / 'x.json', {})
    assert (done.images, done.objects) == (before.images, before.objects)
    assert done.problems['image without id, name or size'] == 2
    assert done.problems['entry is no JSON object'] == 2


def test_command_prints_counts_beside_the_expected_ones(tmp_path):
    samples.write_kitti(tmp_path / 'src')
    tool = Path(__file__).parents[2] / 'tools' / 'prepare.py'
    command = [sys.executable, str(tool), 'kitti', str(tmp_path / 'src'), str(tmp_path / 'out')]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert '2 images (7481 expected), 4 objects, 2 regions to ignore' in output
    assert 'left out: 2 x annotation without a box' in output
    assert (tmp_path / 'out' / 'kitti.json').is_file()


def test_command_names_what_is_not_there(tmp_path):
    tool = Path(__file__).parents[2] / 'tools' / 'prepare.py'
    command = [sys.executable, str(tool), 'lvis', str(tmp_path), str(tmp_path / 'out')]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and 'SRC must hold LVIS annotations' in done.stderr
