"""`cuts3d prepare coco-semi` as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / 'tools' / 'prepare.py'
CATEGORIES = [{'id': 1, 'name': 'person'}, {'id': 90, 'name': 'toothbrush'}]


def write_coco(folder, num_images=300):
    images = [
        {'id': 7 * n, 'file_name': f'{n:012d}.jpg', 'height': 40, 'width': 60 + n % 3}
        for n in range(num_images)
    ]
    annotations = [
        {'id': 3 * n, 'image_id': 7 * (n % num_images), 'category_id': (1, 90)[n % 2],
         'bbox': [1.5, 2.0, 10.25, 4.0], 'area': 41.0, 'iscrowd': 0, 'segmentation': [[1.5] * 6]}
        for n in range(2 * num_images)
    ]  # fmt: skip
    content = {'info': {}, 'images': images, 'annotations': annotations, 'categories': CATEGORIES}
    (folder / 'annotations').mkdir(parents=True)
    (folder / 'annotations' / 'instances_train2017.json').write_text(json.dumps(content))
    return content


def prepare(src, dst):
    command = [sys.executable, str(TOOL), 'coco-semi', str(src), str(dst)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope='module')
def shares(tmp_path_factory):
    root = tmp_path_factory.mktemp('coco')
    whole = write_coco(root)
    done = prepare(root, root / 'shares')
    assert done.returncode == 0, done.stderr
    paths = (root / 'shares').glob('*.json')
    read = {int(path.name.split('perc_')[0]): json.loads(path.read_text()) for path in paths}
    return whole, dict(sorted(read.items())), done.stdout


def test_each_share_has_its_percentage_of_the_images_with_all_their_objects(shares):
    whole, parts, output = shares
    assert list(parts) == [1, 2, 5, 10, 20, 30, 40, 50, 60, 80]
    for percent, part in parts.items():
        ids = {image['id'] for image in part['images']}
        assert len(ids) == 3 * percent
        assert part['annotations'] == [a for a in whole['annotations'] if a['image_id'] in ids]
        assert part['images'] == [image for image in whole['images'] if image['id'] in ids]
        assert part['categories'] == CATEGORIES
    assert '3 images, 6 objects -> ' in output


def test_shares_are_random_and_each_holds_the_smaller_ones(shares):
    _, parts, _ = shares
    ids = [{image['id'] for image in part['images']} for part in parts.values()]
    assert all(small < large for small, large in zip(ids, ids[1:], strict=False))
    assert max(ids[2]) > 7 * 200 and min(ids[2]) < 7 * 100  # not the first ones


def test_missing_annotations_are_one_clear_line(tmp_path):
    done = prepare(tmp_path, tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith('cuts3d prepare: SRC must hold COCO annotations')


@pytest.mark.parametrize(
    ('part', 'entry'),
    [('images', {'file_name': 'a.jpg'}), ('annotations', 7), ('annotations', {'image_id': 8})],
)
def test_an_odd_entry_is_one_clear_line(part, entry, tmp_path):
    content = write_coco(tmp_path, 3)
    content[part].append(entry)
    path = tmp_path / 'annotations' / 'instances_train2017.json'
    path.write_text(json.dumps(content))
    done = prepare(tmp_path, tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f'cuts3d prepare: {path}: ') and 'must be' in done.stderr
