from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from helpers.drawn import disc, make_older

from cuts3d_mm.labels.record import ImageRecord, encode_instance
from cuts3d_mm.labels.store import (
    Counts,
    read_counts,
    read_names,
    read_scores,
    read_store,
    shard_path,
    shard_paths,
    write_failures,
    write_shard,
    write_store,
)
from cuts3d_mm.labels.table import LabelTable


def records():
    confidence = np.full((6, 10), 0.25, np.float32)
    instances = (
        encode_instance(disc((9, 12), 5, (30, 50)), confidence, 0.75),
        encode_instance(disc((20, 40), 6, (30, 50)), None, 1.0),
    )
    yield ImageRecord('a/one.jpg', (30, 50), instances)
    yield ImageRecord('b/empty.jpg', (7, 3))
    yield ImageRecord('b/broken ü.jpg', (0, 0), failure='cannot be read: "x"')


def test_records_survive(tmp_path):
    written = list(records())
    write_shard(tmp_path, 1, written[1:])
    write_shard(tmp_path, 0, written[:1])
    assert list(read_store(tmp_path)) == written


def test_embeddings_survive_and_are_absent_where_nobody_asked_for_them(tmp_path):
    write_shard(tmp_path, 0, list(records()))
    first, *rest = records()
    values = np.array([0.5, -2, 65504], '<f2').tobytes()
    one, two = first.instances
    written = replace(first, instances=(replace(one, embedding=values), two))
    write_shard(tmp_path, 1, [replace(written, name='c')])
    assert list(read_store(tmp_path)) == [first, *rest, replace(written, name='c')]
    assert LabelTable(tmp_path)[3].instances[0] == one  # not read for training
    held = [str(pq.read_schema(path).field('instances').type) for path in shard_paths(tmp_path)]
    assert ['embedding' in one for one in held] == [False, True]


def test_a_shard_under_the_name_of_another_is_refused(tmp_path):
    write_shard(tmp_path, 0, list(records()))
    shard_path(tmp_path, 0).rename(shard_path(tmp_path, 3))
    with pytest.raises(ValueError, match='was written under, labels-000000.parquet'):
        list(read_store(tmp_path))


def test_older_stores_still_read_and_say_that_their_confidence_was_raised(tmp_path):
    written = list(records())
    write_shard(tmp_path, 0, written)
    make_older(tmp_path)
    found = list(read_store(tmp_path))
    crop = found[0].instances[0].confidence
    assert crop == replace(written[0].instances[0].confidence, lower_bound=128)
    assert found[0].instances[1] == written[0].instances[1] and found[1:] == written[1:]
    (tmp_path / 'again').mkdir()
    write_shard(tmp_path / 'again', 0, found)
    assert list(read_store(tmp_path / 'again')) == found


def test_counts_are_in_the_footer(tmp_path):
    counts = write_shard(tmp_path, 0, list(records()))
    assert counts == Counts(images=3, instances=2, failures=1)
    assert read_counts(shard_path(tmp_path, 0)) == counts


def test_failures_are_listed_with_path_and_reason(tmp_path):
    write_shard(tmp_path, 0, list(records()))
    write_failures(tmp_path)
    lines = (tmp_path / 'failures.jsonl').read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {'path': 'b/broken ü.jpg', 'reason': 'cannot be read: "x"'}
    ]


def test_same_records_are_the_same_bytes(tmp_path):
    for name in ('one', 'two'):
        (tmp_path / name).mkdir()
        write_shard(tmp_path / name, 0, list(records()))
    first, second = (shard_path(tmp_path / name, 0).read_bytes() for name in ('one', 'two'))
    assert first == second


def test_shards_sort_by_index(tmp_path):
    names = [shard_path(tmp_path, index).name for index in (2, 10, 100_000)]
    assert names == sorted(names)


def test_a_store_without_images_has_no_scores(tmp_path):
    write_store(tmp_path / 'labels', ())
    assert not len(read_scores(tmp_path / 'labels'))


def test_folder_without_shards_is_refused(tmp_path):
    with pytest.raises(ValueError, match='must be a label store'):
        list(read_store(tmp_path))


def test_a_name_that_a_store_holds_twice_is_refused_by_every_reader(tmp_path):
    names = ('b.png', 'c.png', 'a.png', 'b.png')
    for index, name in enumerate(names):
        write_shard(tmp_path, index, [ImageRecord(name, (8, 4))])
    for read in (lambda: list(read_store(tmp_path)), lambda: read_names(tmp_path)):
        with pytest.raises(ValueError, match="must hold each image once, holds 'b.png' twice"):
            read()
    with pytest.raises(ValueError, match="holds 'b.png' twice"):
        LabelTable(tmp_path)


def test_a_store_whose_images_are_in_another_order_is_read(tmp_path):
    names = ['c.png', 'b.png', 'd.png', 'a.png']
    for index, name in enumerate(names):
        write_shard(tmp_path, index, [ImageRecord(name, (8, 4))])
    assert [record.name for record in read_store(tmp_path)] == names == read_names(tmp_path)
    assert LabelTable(tmp_path).names() == names
