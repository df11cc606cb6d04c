from __future__ import annotations

import pickle

import numpy as np
import pytest
from helpers.drawn import disc, make_older

from cuts3d_mm.files.atomic import open_atomically
from cuts3d_mm.labels import table
from cuts3d_mm.labels.coco import write_coco
from cuts3d_mm.labels.record import ImageRecord, encode_instance
from cuts3d_mm.labels.store import read_store, write_shard
from cuts3d_mm.labels.table import LabelTable, SelectedRecords, random_records


def write_store(folder, sizes=(3, 1, 4)):
    """Shards of so many images; image i has i % 3 instances, every seventh is a failure."""
    number = 0
    for shard, size in enumerate(sizes):
        records = []
        for _ in range(size):
            hw = (20 + number, 31)
            one = encode_instance(disc((9, 12), 5, hw), np.full((6, 10), 0.5, np.float32), 0.5)
            if number % 7 == 6:
                records.append(ImageRecord(f'{number:02d}.jpg', (0, 0), failure='broken'))
            else:
                records.append(ImageRecord(f'{number:02d}.jpg', hw, (one,) * (number % 3)))
            number += 1
        write_shard(folder, shard, records)
    return list(read_store(folder))


def test_any_record_equals_the_one_that_is_read_in_order(tmp_path):
    expected = write_store(tmp_path)
    table = LabelTable(tmp_path)
    assert len(table) == len(expected)
    assert [table[index] for index in (7, 0, 3, 2, 6)] == [expected[i] for i in (7, 0, 3, 2, 6)]


def test_records_of_an_older_store_equal_those_that_are_read_in_order(tmp_path):
    write_store(tmp_path)
    make_older(tmp_path)
    write_shard(tmp_path, 3, [ImageRecord('new.jpg', (5, 6))])  # a run that went on since
    table, expected = LabelTable(tmp_path), list(read_store(tmp_path))
    assert [table[index] for index in range(len(table))] == expected
    assert expected[1].instances[0].confidence.lower_bound == 128


def test_sizes_and_counts_are_known_without_reading_records(tmp_path):
    expected = write_store(tmp_path)
    table = LabelTable(tmp_path)
    assert [tuple(hw) for hw in table.image_hw] == [record.image_hw for record in expected]
    assert list(table.num_instances) == [len(record.instances) for record in expected]
    assert list(table.is_failure) == [record.failure is not None for record in expected]


def test_figures_of_images_are_those_of_their_instances(tmp_path):
    hw = (20, 31)
    masks = [disc((9, 12), radius, hw) for radius in (3, 6, 4)]
    scored = [encode_instance(m, None, s) for m, s in zip(masks, (0.2, 0.9, 0.4), strict=True)]
    for shard, kept in enumerate((scored, [], scored[:1])):
        write_shard(tmp_path, shard, [ImageRecord(f'{shard}.jpg', hw, tuple(kept))])
    write_shard(tmp_path, 3, [ImageRecord('3.jpg', (0, 0), failure='broken')])
    figures = LabelTable(tmp_path).figures()
    shares = [masks[1].mean(), 0, masks[0].mean(), 0]
    np.testing.assert_allclose(figures.mean_score, [0.5, 0, 0.2, 0], atol=1e-6)
    np.testing.assert_allclose(figures.largest_share, shares)


def test_a_changed_store_is_unpacked_again(tmp_path):
    write_store(tmp_path)
    assert len(LabelTable(tmp_path)) == 8
    write_shard(tmp_path, 3, [ImageRecord('new.jpg', (5, 6))])
    assert LabelTable(tmp_path)[8].name == 'new.jpg'


def test_an_unchanged_store_is_not_unpacked_again(tmp_path):
    write_store(tmp_path)
    LabelTable(tmp_path)
    before = (tmp_path / 'unpacked.arrow').stat().st_mtime_ns
    LabelTable(tmp_path)
    assert (tmp_path / 'unpacked.arrow').stat().st_mtime_ns == before


def test_a_store_that_is_shared_for_reading_is_unpacked_elsewhere(tmp_path, monkeypatch):
    store, cache = tmp_path / 'store', tmp_path / 'cache'
    store.mkdir()
    expected = write_store(store)
    before = sorted(store.iterdir())

    def open_elsewhere_only(path):  # root may write into any folder
        if store in path.parents:
            raise OSError(30, 'Read-only file system', str(path))
        return open_atomically(path)

    monkeypatch.setattr(table, 'open_atomically', open_elsewhere_only)
    monkeypatch.setenv('XDG_CACHE_HOME', str(cache))
    assert LabelTable(store)[2] == expected[2]
    assert sorted(store.iterdir()) == before
    assert len(list((cache / 'cuts3d_mm').glob('*.arrow'))) == 1


def test_coco_json_gives_the_same_records(tmp_path):
    expected = [record for record in write_store(tmp_path) if record.failure is None]
    write_coco(tmp_path / 'labels.json', lambda: expected)
    table = LabelTable(tmp_path / 'labels.json')
    assert [table[index] for index in range(len(table))] == expected


def test_a_table_survives_the_way_to_a_worker(tmp_path):
    expected = write_store(tmp_path)
    selected = SelectedRecords(LabelTable(tmp_path), np.array([4, 1]))
    copy = pickle.loads(pickle.dumps(selected))
    assert [copy[0], copy[1]] == [expected[4], expected[1]]


def test_a_folder_that_is_no_store_is_refused(tmp_path):
    with pytest.raises(ValueError, match='must be a label store'):
        LabelTable(tmp_path)


def test_random_images_are_labelled_ones_in_order_the_same_for_the_same_seed(tmp_path):
    labelled = [record for record in write_store(tmp_path) if record.failure is None]
    draws = [list(random_records(tmp_path, 4, np.random.default_rng(seed))) for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]
    for drawn in draws:
        assert len(drawn) == 4 and [one for one in labelled if one in drawn] == drawn
    assert list(random_records(tmp_path, 99, np.random.default_rng(0))) == labelled


def test_a_draw_of_no_image_is_refused(tmp_path):
    write_store(tmp_path)
    with pytest.raises(ValueError, match='at least 1, got 0'):
        random_records(tmp_path, 0, np.random.default_rng(0))


def unpacked(folder):
    return folder / 'unpacked.arrow'


@pytest.mark.parametrize('kind', ['empty', 'rubbish', 'cut short', 'a folder'])
def test_a_damaged_unpacked_file_is_written_again(tmp_path, kind, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    expected = write_store(tmp_path)
    LabelTable(tmp_path)
    content = unpacked(tmp_path).read_bytes()
    unpacked(tmp_path).unlink()
    if kind == 'a folder':
        unpacked(tmp_path).mkdir()
    else:
        pieces = {'empty': b'', 'rubbish': b'rubbish' * 99, 'cut short': content[:-300]}
        unpacked(tmp_path).write_bytes(pieces[kind])
    table = LabelTable(tmp_path)
    assert [table[index] for index in range(len(table))] == expected
    assert kind == 'a folder' or unpacked(tmp_path).read_bytes() == content


def test_a_flipped_bit_in_the_unpacked_file_changes_no_record_unnoticed(tmp_path, rng):
    expected = write_store(tmp_path)
    LabelTable(tmp_path)
    content = unpacked(tmp_path).read_bytes()
    spoilt = 0
    for position in rng.integers(8, len(content), 60):
        changed = bytearray(content)
        changed[position] ^= 1 << int(rng.integers(8))
        unpacked(tmp_path).write_bytes(changed)
        table = LabelTable(tmp_path)
        found = [table[index] for index in range(len(table))]
        spoilt += found != expected
    assert spoilt < 15  # a score or a letter of a name may change and still be one


def test_a_store_is_read_where_nothing_next_to_it_can_be_written(tmp_path, monkeypatch):
    (tmp_path / 'store').mkdir()
    expected = write_store(tmp_path / 'store')
    (tmp_path / 'file').write_bytes(b'')
    unpacked(tmp_path / 'store').mkdir()
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'file'))  # no folder can be made there
    monkeypatch.setattr('tempfile.tempdir', str(tmp_path))
    table = LabelTable(tmp_path / 'store')
    assert [table[index] for index in range(len(table))] == expected
    monkeypatch.setattr('tempfile.tempdir', str(tmp_path / 'file'))
    with pytest.raises(OSError, match='labels must be unpacked next to .*or elsewhere'):
        LabelTable(tmp_path / 'store')


def test_a_system_without_numbers_of_users_reads_labels(tmp_path, monkeypatch):
    monkeypatch.delattr('os.getuid')
    expected = write_store(tmp_path)
    assert LabelTable(tmp_path)[0] == expected[0]
