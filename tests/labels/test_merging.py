from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers.drawn import disc

from cuts3d_mm.labels.merging import (
    LabelSelection,
    LabelStatistics,
    MergeRule,
    merge_records,
    merge_stores,
    select_records,
    settle_rule,
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
    merged, kept = merge_records(new, old, RULE)
    assert merged.instances == (new.instances[0], old.instances[1])
    assert kept == new.instances[:1]


def test_a_prediction_without_a_class_takes_that_of_the_label_that_it_replaces():
    old = record('a', (LEFT, 0.5), (RIGHT, 0.6))
    old = replace(old, instances=tuple(replace(one, category='cat') for one in old.instances))
    merged, _ = merge_records(record('a', (LEFT_LARGER, 0.9), (MIDDLE, 0.8)), old, RULE)
    assert [one.category for one in merged.instances] == ['cat', None, 'cat']


def test_old_labels_with_little_overlap_stay():
    merged, _ = merge_records(record('a', (MIDDLE, 0.9)), record('a', (LEFT, 0.5)), RULE)
    assert len(merged.instances) == 2  # IoU below one half


def test_image_without_confident_predictions_keeps_its_old_labels():
    old = record('a', (LEFT, 0.5), (LEFT_LARGER, 0.4))
    assert merge_records(record('a', (LEFT, 0.6)), old, RULE) == (old, ())


def test_where_old_labels_win_only_objects_without_a_label_are_added():
    rule = replace(RULE, name='old-labels-win')
    part, inner = disc((20, 18), 6, HW), disc((20, 50), 5, HW)
    new = record('a', (inner, 0.8), (RIGHT, 0.9), (LEFT_LARGER, 0.9), (part, 0.9), (MIDDLE, 0.6))
    old = record('a', (LEFT, 0.5))
    merged, kept = merge_records(new, old, rule)
    assert kept == (new.instances[1],)  # nothing better than the label, no part of either
    assert merged.instances == (*kept, *old.instances)


@pytest.mark.parametrize('goal, expected', [(0.5, 0.4), (0.75, 0.6), (0.1, 0.2)])
def test_the_smallest_score_is_where_predictions_agree_with_labels_as_far_as_asked(
    tmp_path, goal, expected
):
    # The first three are right; the best lies in what is no label and does not count.
    found = [(LEFT, 0.9), (LEFT, 0.8), (LEFT, 0.7), (RIGHT, 0.6), (RIGHT, 0.5), (RIGHT, 0.4)]
    other = disc((8, 35), 5, HW)
    write_store(tmp_path / 'old', [record('a', (LEFT, 0.9), (other, 0.1)), record('b')])
    new = [record('a', *found, (other, 0.95)), record('b', (LEFT, 0.3), (LEFT, 0.2))]
    write_store(tmp_path / 'new', new)
    rule = MergeRule('auto', agreement=goal)
    settled = settle_rule(rule, tmp_path / 'new', tmp_path / 'old', old_thr=0.5)
    assert settled.score_thr == pytest.approx(expected)
    write_store(tmp_path / 'wrong', [record('a', (RIGHT, 0.9))])
    assert settle_rule(rule, tmp_path / 'wrong', tmp_path / 'old', old_thr=0.5).score_thr == 1
    assert settle_rule(settled, tmp_path, tmp_path) == settled


def test_failed_and_excluded_images_do_not_disturb_the_smallest_score(tmp_path):
    names = [f'{number:02}' for number in range(6)]
    found = [record(name, (LEFT, 0.9), (RIGHT, 0.2)) for name in names]
    write_store(tmp_path / 'new', [*found, record('x', (RIGHT, 0.95))])
    labels = [record(name, (LEFT, 0.9)) for name in names]
    write_store(tmp_path / 'old', [failed('..'), *labels, record('x', (LEFT, 0.9))])
    write_store(tmp_path / 'half', [failed('00'), *labels[1:], record('x', (LEFT, 0.9))])
    rule = MergeRule('auto', agreement=1.0)
    for old in ('old', 'half'):
        folders = tmp_path / 'new', tmp_path / old
        assert settle_rule(rule, *folders, {'x'}).score_thr == pytest.approx(0.9)
    _, kept = merge_stores(*folders, tmp_path / 'out', rule, excluded={'x'})
    assert (kept.num_kept, kept.num_all) == (6, 12)


def test_predictions_of_one_score_become_labels_together_or_not_at_all(tmp_path):
    write_store(tmp_path / 'new', [record('a', (LEFT, 0.5), (RIGHT, 0.5))])
    write_store(tmp_path / 'old', [record('a', (LEFT, 0.9))])
    folders = tmp_path / 'new', tmp_path / 'old'
    assert settle_rule(MergeRule('auto', agreement=1.0), *folders).score_thr == 1
    assert settle_rule(MergeRule('auto', agreement=0.5), *folders).score_thr == 0.5


def test_a_score_that_was_stored_reaches_the_same_number(tmp_path):
    write_store(tmp_path / 'new', [record('a', (LEFT, 0.7))])
    write_store(tmp_path / 'old', [record('a')])
    _, kept = merge_stores(tmp_path / 'new', tmp_path / 'old', tmp_path / 'out', MergeRule(0.7))
    assert kept.num_kept == 1
    (stored,) = read_store(tmp_path / 'new')
    (chosen,) = select_records([stored], LabelSelection.parse('0.7').threshold(np.zeros(0)))
    assert len(chosen.instances) == 1


@pytest.mark.parametrize('score', ['autos', '0.5', True, 1.5])
def test_a_score_in_other_words_is_refused(score):
    with pytest.raises(ValueError, match='score_thr must lie in'):
        MergeRule(score)


@pytest.mark.parametrize(
    'text, expected', [('none', 0.0), (0.5, 0.5), ('0.5', 0.5), ('50%', 0.4), ('100%', 0.0)]
)
def test_labels_are_selected_by_a_score_or_by_the_share_of_the_best(text, expected):
    selection = LabelSelection.parse(text)
    assert selection.threshold(np.array([0.2, 0.4, 0.9, 0.1])) == expected
    assert LabelSelection.parse(str(selection)) == selection


def test_a_share_of_labels_with_equal_scores_is_said_to_be_all_of_them():
    selection = LabelSelection.parse('50%')
    assert selection.describe(np.ones(3)) == 'all labels, since their scores are equal'
    for scores in (np.array([0.2, 1]), np.zeros(0), None):
        assert selection.describe(scores).startswith('the 50 % of the labels')


@pytest.mark.parametrize('text', ['all', '1.5', '0%', '150%', ''])
def test_a_selection_in_other_words_is_refused_with_the_remedy(text):
    with pytest.raises(ValueError, match='must be none, a smallest score'):
        LabelSelection.parse(text)


def test_a_line_says_how_many_predictions_become_labels(tmp_path):
    new, old = tmp_path / 'new', tmp_path / 'old'
    found = record('b', (LEFT, 0.9), (RIGHT, 0.7))
    write_store(new, [failed('a'), found, record('c', (LEFT, 0.3))])
    write_store(old, [record('a'), record('b', (LEFT, 0.2), (RIGHT, 0.8)), record('c')])
    _, kept = merge_stores(new, old, tmp_path / 'out', MergeRule(np.float32(0.7)))
    assert (kept.num_kept, kept.num_all, kept.best_score) == (2, 3, np.float32(0.9))
    rule = MergeRule(0.95)
    counts, none = merge_stores(new, old, tmp_path / 'selected', rule, old_thr=0.5)
    assert counts.instances == 1  # the old label that is selected
    assert none.describe() == (
        '0 of 3 predictions become labels, by a smallest score of 0.95; the best scores 0.90; '
        'the labels stay as they are'
    )


def test_failures_of_either_side_count_as_nothing():
    good = record('a', (LEFT, 0.9))
    assert merge_records(failed('a'), good, RULE) == (good, ())
    assert merge_records(good, failed('a'), RULE) == (good, good.instances)
    assert merge_records(failed('a'), failed('a'), RULE)[0].failure is not None


def test_sizes_that_differ_are_an_error():
    other = ImageRecord('a', HW[::-1], ())
    with pytest.raises(ValueError, match='must have one size'):
        merge_records(record('a', (LEFT, 0.9)), other, RULE)


@pytest.mark.parametrize('rule', [{'score_thr': 1.2}, {'score_thr': 0.5, 'max_overlap': -1}])
def test_thresholds_outside_of_their_range_are_refused(rule):
    with pytest.raises(ValueError, match=r'must lie in \[0, 1\]'):
        MergeRule(**rule)


def test_stores_are_merged_image_by_image_whatever_their_shards(tmp_path):
    (tmp_path / 'new').mkdir()
    (tmp_path / 'old').mkdir()
    write_shard(tmp_path / 'new', 0, [record('b', (LEFT_LARGER, 0.9)), record('d', (LEFT, 0.8))])
    write_shard(tmp_path / 'old', 0, [record('a', (LEFT, 0.5))])
    write_shard(tmp_path / 'old', 1, [record('b', (LEFT, 0.5), (RIGHT, 0.5)), failed('c')])
    counts, _ = merge_stores(tmp_path / 'new', tmp_path / 'old', tmp_path / 'out', RULE)
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
    counts, _ = merge_stores(*folders, RULE, excluded={'b'})
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
