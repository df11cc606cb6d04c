from __future__ import annotations

import numpy as np
import pytest
from helpers.drawn import disc

from cuts3d_mm.labels.merging import (
    KeptPredictions,
    LabelStatistics,
    MergeRule,
    merge_records,
    merge_stores,
)
from cuts3d_mm.labels.record import ImageRecord, encode_instance
from cuts3d_mm.labels.store import read_store, write_shard, write_store

HW = (40, 70)
LEFT, LEFT_LARGER = disc((20, 18), 10, HW), disc((20, 18), 12, HW)
RIGHT, MIDDLE = disc((20, 50), 10, HW), disc((20, 26), 10, HW)
RULE = MergeRule(score_thr=0.7)


def record(name, *instances):
    return ImageRecord(name, HW, tuple(encode_instance(m, None, s) for m, s in instances))


def failed(name):
    return ImageRecord(name, (0, 0), failure='broken')


def test_confident_predictions_replace_the_old_labels_that_they_cover():
    new = record('a', (LEFT_LARGER, 0.9), (RIGHT, 0.69))
    old = record('a', (LEFT, 0.5), (RIGHT, 0.6))
    merged = merge_records(new, old, RULE)
    assert merged.instances == (new.instances[0], old.instances[1])


def test_old_labels_with_little_overlap_stay():
    merged = merge_records(record('a', (MIDDLE, 0.9)), record('a', (LEFT, 0.5)), RULE)
    assert len(merged.instances) == 2  # IoU below one half


def test_image_without_confident_predictions_keeps_its_old_labels():
    old = record('a', (LEFT, 0.5), (LEFT_LARGER, 0.4))
    assert merge_records(record('a', (LEFT, 0.6)), old, RULE) == old


def test_a_line_says_how_many_predictions_become_labels(tmp_path):
    records = [failed('a'), record('b', (LEFT, 0.9), (RIGHT, 0.7)), record('c', (LEFT, 0.3))]
    write_store(tmp_path / 'new', records)
    kept = KeptPredictions.of(tmp_path / 'new', MergeRule(np.float32(0.7)))
    assert (kept.num_kept, kept.num_all, kept.best_score) == (2, 3, np.float32(0.9))
    assert KeptPredictions.of(tmp_path / 'new', RULE, {'a', 'b'}).num_all == 1
    none = KeptPredictions.of(tmp_path / 'new', MergeRule(0.95)).describe()
    assert none == (
        '0 of 3 predictions score 0.95 or more and become labels; the best scores 0.90; '
        'the labels stay as they are'
    )
    write_store(tmp_path / 'empty', [failed('a'), record('b')])
    assert KeptPredictions.of(tmp_path / 'empty', RULE).num_all == 0


def test_failures_of_either_side_count_as_nothing():
    good = record('a', (LEFT, 0.9))
    assert merge_records(failed('a'), good, RULE) == good
    assert merge_records(good, failed('a'), RULE) == good
    assert merge_records(failed('a'), failed('a'), RULE).failure is not None


def test_sizes_that_differ_are_an_error():
    other = ImageRecord('a', HW[::-1], ())
    with pytest.raises(ValueError, match='must have one size'):
        merge_records(record('a', (LEFT, 0.9)), other, RULE)


@pytest.mark.parametrize('rule', [{'score_thr': 1.2}, {'score_thr': 0.5, 'iou_thr': -1}])
def test_thresholds_outside_of_their_range_are_refused(rule):
    with pytest.raises(ValueError, match=r'must lie in \[0, 1\]'):
        MergeRule(**rule)


def test_stores_are_merged_image_by_image_whatever_their_shards(tmp_path):
    (tmp_path / 'new').mkdir()
    (tmp_path / 'old').mkdir()
    write_shard(tmp_path / 'new', 0, [record('b', (LEFT_LARGER, 0.9)), record('d', (LEFT, 0.8))])
    write_shard(tmp_path / 'old', 0, [record('a', (LEFT, 0.5))])
    write_shard(tmp_path / 'old', 1, [record('b', (LEFT, 0.5), (RIGHT, 0.5)), failed('c')])
    counts = merge_stores(tmp_path / 'new', tmp_path / 'old', tmp_path / 'out', RULE)
    merged = {r.name: len(r.instances) for r in read_store(tmp_path / 'out')}
    assert merged == {'a': 1, 'b': 2, 'c': 0, 'd': 1}
    assert (counts.images, counts.instances, counts.failures) == (4, 4, 1)
    assert 'broken' in (tmp_path / 'out' / 'failures.jsonl').read_text()


def test_images_left_out_are_in_neither_store_when_it_merges(tmp_path):
    for name, hw in (('new', HW), ('old', HW[::-1])):
        (tmp_path / name).mkdir()
        odd = ImageRecord('b', hw, ())  # of two sizes
        write_shard(tmp_path / name, 0, [record('a', (LEFT, 0.9)), odd])
    folders = tmp_path / 'new', tmp_path / 'old', tmp_path / 'out'
    counts = merge_stores(*folders, RULE, excluded={'b'})
    assert [record.name for record in read_store(tmp_path / 'out')] == ['a']
    assert counts.images == 1


def test_an_existing_result_is_not_overwritten(tmp_path):
    (tmp_path / 'out').mkdir()
    with pytest.raises(FileExistsError, match='OUT must not exist yet'):
        merge_stores(tmp_path, tmp_path, tmp_path / 'out', RULE)


STATISTICS_HW = (20, 30)


def record_of(*areas):
    """An image with instances of so many pixels."""
    instances = []
    for area in areas:
        mask = np.arange(STATISTICS_HW[0] * STATISTICS_HW[1]).reshape(STATISTICS_HW) < area
        instances.append(encode_instance(mask, None, 1.0))
    return ImageRecord(f'{areas}.jpg', STATISTICS_HW, tuple(instances))


def test_images_are_counted_by_their_instances_and_instances_by_their_area():
    # Of 600 pixels: below 1 %, exactly 1 %, 3 %, 5 %, 20 %, 40 %.
    records = [record_of(5, 6, 18), record_of(30), record_of(), record_of(*[120] * 6, 240)]
    records.append(ImageRecord('broken.jpg', (0, 0), failure='cannot be read'))
    found = LabelStatistics.of(records)
    assert (found.num_images, found.num_failures, found.num_instances) == (4, 1, 11)
    assert found.images_by_count == {0: 1, 1: 1, 3: 1, 4: 1}
    assert found.instances_by_area == {0: 1, 1: 2, 2: 1, 3: 6, 4: 1}
    rows = dict(found.rows())
    assert rows['instances per image'] == '2.75'
    assert rows['images with 4 or more'] == '25.0 %'
    assert rows['area 0% to 1% of the image'] == '9.1 %'
    assert rows['area 36% to 100% of the image'] == '9.1 %'


def test_no_labels_are_no_error():
    assert dict(LabelStatistics.of([]).rows())['instances per image'] == '0.00'
