from __future__ import annotations

import numpy as np
import pytest
from helpers.drawn import disc

from cuts3d_mm.labels.naming import (
    LabelsDigest,
    StoredGroups,
    apply,
    name_records,
    read_operations,
    write_operations,
)
from cuts3d_mm.labels.record import ImageRecord, encode_instance


def records(radius=5):
    for name, count in (('a.png', 2), ('b.png', 0), ('c.png', 3)):
        places = [(10, 10 + 14 * index) for index in range(count)]
        found = [encode_instance(disc(place, radius, (20, 50)), None, 0.5) for place in places]
        yield ImageRecord(name, (20, 50), tuple(found))


@pytest.fixture
def groups():
    digest = LabelsDigest()
    for record in records():
        digest.add(record)
    group, distance = np.array([0, 1, 0, -1, 2]), np.array([0.1, 0.2, 0.3, 0, 0.4], np.float32)
    images = tuple((record.name, len(record.instances)) for record in records())
    return StoredGroups(images, group, distance, distance > 0.15, str(digest))


def test_groups_survive(groups, tmp_path):
    groups.write(tmp_path / 'groups.json')
    found = StoredGroups.read(tmp_path / 'groups.json')
    for key, value in vars(groups).items():
        assert np.array_equal(vars(found)[key], value), key
    assert found.members[3] == ('c.png', 1) and found.places['c.png', 2] == 4


@pytest.mark.parametrize(
    ('operations', 'classes'),
    [
        ([], [None] * 5),
        ([{'name': 0, 'as': ' cat '}], ['cat', None, 'cat', None, None]),
        ([{'name': 0, 'as': 'cat'}, {'merge': 1, 'into': 0}], ['cat', 'cat', 'cat', None, None]),
        ([{'name': 1, 'as': 'dog'}, {'merge': 1, 'into': 0}], ['dog', 'dog', 'dog', None, None]),
        ([{'name': 0, 'as': 'cat'}, {'drop': 0}], [None] * 5),
        ([{'drop': 0}, {'name': 0, 'as': 'cat'}], ['cat', None, 'cat', None, None]),
        (
            [{'drop': 0}, {'merge': 0, 'into': 2}, {'name': 2, 'as': 'x'}],
            ['x', None, 'x', None, 'x'],
        ),
        (
            [{'name': 2, 'as': 'cup'}, {'move': [['c.png', 1], ['a.png', 0]], 'into': 2}],
            ['cup', None, None, 'cup', 'cup'],
        ),
        (
            [
                {'name': 0, 'as': 'cat'},
                {'split': 0, 'members': [['c.png', 0]]},
                {'name': 3, 'as': 'dog'},
            ],
            ['cat', None, 'dog', None, None],
        ),
    ],
)
def test_operations_give_instances_their_classes(groups, operations, classes):
    before = groups.group.copy()
    naming = apply(operations, groups)
    assert [naming.class_of(one) for one in naming.group.tolist()] == classes
    assert naming.classes == sorted({*classes} - {None})
    assert (groups.group == before).all()


@pytest.mark.parametrize(
    ('operation', 'message'),
    [
        ({'name': 3, 'as': 'x'}, 'must name a group that has instances, got 3'),
        ({'name': -1, 'as': 'x'}, 'got -1'),
        ({'name': True, 'as': 'x'}, 'got True'),
        ({'name': 0, 'as': '\n'}, 'characters'),
        ({'name': 0, 'as': 'a\x07b'}, 'printable'),
        ({'merge': 1, 'into': 1}, 'two groups'),
        ({'move': [['a.png', 2]], 'into': 0}, r"got \['a.png', 2\]"),
        ({'move': [], 'into': 0}, 'at least one'),
        ({'split': 0, 'members': [['a.png', 0], ['c.png', 0]]}, 'not all'),
        ({'split': 0, 'members': [['a.png', 1]]}, 'some of group 0'),
        ({'paint': 0}, 'must be one of name/as'),
        (['name', 'as'], 'must be one of name/as'),
    ],
)
def test_an_operation_that_cannot_be_is_named_with_its_number(groups, operation, message):
    with pytest.raises(ValueError, match=rf'operations\[1\] .*{message}'):
        apply([{'name': 0, 'as': 'cat'}, operation], groups)


def test_names_go_to_the_labels_that_were_grouped_and_to_no_others(groups):
    naming = apply([{'name': 0, 'as': 'cat'}], groups)
    found = list(name_records(records(), groups, naming))
    assert [[one.category for one in record.instances] for record in found] == [
        ['cat'],
        [],
        ['cat'],
    ]
    with pytest.raises(ValueError, match='run cuts3d group again'):
        list(name_records(records(radius=6), groups, naming))


def test_operations_survive_and_a_broken_file_is_named(tmp_path):
    path = tmp_path / 'names.json'
    assert read_operations(path) == []
    for operations in ([], [{'name': 0, 'as': 'a "b" ü'}, {'drop': 1}]):
        write_operations(path, operations)
        assert read_operations(path) == operations
    for text in ('{', '[]', '[' * 100_000, '{"operations": {}}'):
        path.write_text(text)
        with pytest.raises(ValueError, match='names.json must'):
            read_operations(path)


@pytest.mark.parametrize(
    'text', ['{', '[]', '[' * 100_000, '{"labels": "x", "images": [{"name": "a"}]}']
)
def test_a_broken_file_of_groups_is_named(tmp_path, text):
    (tmp_path / 'groups.json').write_text(text)
    with pytest.raises(ValueError, match='groups.json must be what cuts3d group writes'):
        StoredGroups.read(tmp_path / 'groups.json')
