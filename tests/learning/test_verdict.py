"""What a run says of the detector that it has made."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cuts3d_mm.learning.verdict import Evidence, judge

PHOTOS = Evidence(
    agreement=0.0008,
    num_objects=92,
    num_images=30,
    best_score=0.33,
    num_labels=300,
    steps=400,
    usual_steps=400,
    is_hand_made=True,
)


def test_a_detector_that_agrees_with_nothing_is_called_not_usable_with_cause_and_remedy():
    found = str(judge(PHOTOS))
    assert found.startswith('agrees with its labels to 0.08 % (mask AP50, 92 objects of 30 held-')
    assert (
        ': not usable; most likely because its labels are cut by colour and texture alone;'
        in found
    )
    assert 'best score is 0.33' in found and found.endswith('another OUT without --offline')


def test_a_detector_that_has_learned_its_labels_is_good_whatever_they_are_made_of():
    found = judge(replace(PHOTOS, agreement=0.82, best_score=0.9))
    assert found.word == 'good' and found.finding.endswith('held-out images): good')


@pytest.mark.parametrize(
    ('change', 'cause'),
    [
        ({'steps': 6, 'usual_steps': 231}, 'trained for 6 of 231 usual steps'),
        ({'num_labels': 7}, 'no more than 7 labels'),
        ({}, 'labels show something else in each image'),
    ],
)
def test_each_cause_of_a_bad_detector_is_named(change, cause):
    assert cause in str(judge(replace(PHOTOS, agreement=0.3, is_hand_made=False, **change)))


def test_a_verdict_by_few_objects_or_none_says_so():
    assert 'few enough for chance' in str(judge(replace(PHOTOS, num_objects=4)))
    assert judge(replace(PHOTOS, agreement=None)).word == 'not known'
