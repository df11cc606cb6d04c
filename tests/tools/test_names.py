"""From labels to labels with classes."""

from __future__ import annotations

import json
import shutil

import pytest
from helpers.drawn import write_colored_discs

from cuts3d_mm.labels.coco_json import read_ground_truth
from cuts3d_mm.labels.record import ImageRecord
from cuts3d_mm.labels.store import read_store, write_store
from cuts3d_mm.labels.table import LabelTable
from cuts3d_mm.learning.classes import divide_labels

FEATURES = '--features', 'cuts3d_color-texture_file-depth', '--groups', 3


@pytest.fixture
def folder(tmp_path, rng):
    """Images of three discs in three colours, in another order in each, and their labels."""
    records = write_colored_discs(tmp_path, 4, rng, turn=1)
    write_store(tmp_path / 'labels', [*records, ImageRecord('x.png', (0, 0), failure='broken')])
    return tmp_path


def group(cuts3d, folder, *options, out='groups'):
    return cuts3d('group', folder / 'labels', folder / 'images', folder / out, *options)


def test_a_folder_of_groups_named_gives_coco_json_with_classes(folder, cuts3d):
    code, text, _ = group(cuts3d, folder, *FEATURES)
    assert code == 0 and '12 instances, 100% sure: 3 groups' in text
    sheets = sorted((folder / 'groups').glob('*.jpg'))
    assert [path.name for path in sheets] == [f'group_{n:04d}.jpg' for n in range(3)]
    rows = json.loads((folder / 'groups/groups.json').read_text())['images']
    colors = [(place + number) % 3 for number in range(4) for place in range(3)]
    pairs = {*zip(colors, [one for row in rows for one in row['group']], strict=True)}
    assert len(pairs) == 3  # each colour is a group
    by_color = dict(pairs)
    names = folder / 'groups/names.json'
    operations = [
        {'name': by_color[0], 'as': 'red thing'},
        {'name': by_color[1], 'as': 'blue thing'},
        {'drop': by_color[2]},
    ]
    names.write_text(json.dumps({'operations': operations}))
    code, text, _ = cuts3d('name', folder / 'labels', names, folder / 'named')
    assert code == 0 and '8 instances of 2 classes, 4 without a name left out' in text
    assert len(LabelTable(folder / 'named')) == 5  # for training without classes
    kept = [one.category for record in read_store(folder / 'named') for one in record.instances]
    assert sorted(set(kept)) == ['blue thing', 'red thing']

    assert cuts3d('export', folder / 'named', folder / 'named.json')[0] == 0
    truth = read_ground_truth(folder / 'named.json', needs_classes=True)
    named = {one['id']: one['name'] for one in truth['categories']}
    assert [named[one['category_id']] for one in truth['annotations']] == kept
    assert [one['name'] for one in truth['categories']] == ['blue thing', 'red thing']
    names = [f'{number}.png' for number in range(4)]
    few, test = divide_labels(folder / 'named.json', None, names)  # as learn --labels does
    assert few['annotations'] and test['annotations'] and few['categories'] == truth['categories']


def test_what_stands_in_the_way_of_groups_and_names_is_said(folder, cuts3d):
    code, _, errors = group(cuts3d, folder)
    assert code == 2 and 'cuts3d generate --embed' in errors and '--features' in errors
    assert group(cuts3d, folder, '--groups', 'many')[0] == 2
    assert group(cuts3d, folder, *FEATURES)[0] == 0
    names = folder / 'groups/names.json'
    names.write_text('{"operations": []}')
    code, _, errors = cuts3d('name', folder / 'labels', names, folder / 'named')
    assert code == 2 and 'must name a group' in errors and not (folder / 'named').exists()
    code, _, errors = group(cuts3d, folder, *FEATURES)
    assert code == 2 and 'write to another folder' in errors
    alone = shutil.copy(names, folder)
    code, _, errors = cuts3d('name', folder / 'labels', alone, folder / 'named')
    assert code == 2 and f'{folder}/groups.json must be what cuts3d group writes' in errors
    write_store(folder / 'empty', [ImageRecord('0.png', (60, 180))])
    code, _, errors = cuts3d('group', folder / 'empty', folder / 'images', folder / 'new')
    assert code == 2 and 'must have an instance to group' in errors and '--embed' not in errors


def test_an_image_that_cannot_be_read_costs_its_own_instances(folder, cuts3d):
    (folder / 'images/2.png').write_bytes(b'no image')
    code, text, errors = group(cuts3d, folder, *FEATURES)
    assert code == 3 and 'left out: 2.png: cannot be read' in errors
    rows = json.loads((folder / 'groups/groups.json').read_text())['images']
    assert rows[2]['group'] == [-1, -1, -1] and min(rows[1]['group']) >= 0


def test_embeddings_that_generate_keeps_are_grouped_without_the_features(folder, cuts3d):
    shutil.rmtree(folder / 'labels')
    run = ('maskcut_color-texture', folder / 'images', folder / 'labels', '--workers', 0)
    assert cuts3d('generate', *run, '--embed')[0] == 0
    code, text, errors = group(cuts3d, folder, '--groups', 2)
    assert code == 0 and ': 2 groups' in text, errors
    assert cuts3d('generate', *run)[0] == 2  # another config of the same folder


def test_groups_are_the_same_each_time(folder, cuts3d):
    for out in ('one', 'two'):
        assert group(cuts3d, folder, *FEATURES, out=out)[0] == 0
    for path in sorted((folder / 'one').iterdir()):
        assert path.read_bytes() == (folder / 'two' / path.name).read_bytes(), path.name
