from __future__ import annotations

import numpy as np
import pytest

from cuts3d_mm.algorithm import grouping
from cuts3d_mm.algorithm.grouping import embed_masks, group_vectors, split_group


def clusters(rng, sizes=(30, 50, 20), noise=0.1, channels=12):
    """Vectors around as many centres as there are sizes, and the true group of each."""
    centres = rng.standard_normal((len(sizes), channels))
    truth = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    vectors = centres[truth] + noise * rng.standard_normal((len(truth), channels))
    return vectors.astype(np.float32), truth


def test_an_embedding_is_the_mean_of_the_features_weighted_by_confidence():
    features = np.zeros((2, 3, 2), np.float32)
    features[0], features[1] = (0, 1), (1, 0)
    mask = np.ones((20, 60), bool)
    confidence = np.array([[1.0], [0.5]], np.float32)
    found = embed_masks(features, [mask, mask, mask], [None, confidence, 0 * confidence])
    np.testing.assert_allclose(found, [[0.5, 0.5], [1 / 3, 2 / 3], [0.5, 0.5]], rtol=1e-5)


def test_the_smallest_mask_has_the_features_of_its_patch(rng):
    features = rng.random((6, 9, 4)).astype(np.float32)
    mask = np.zeros((60, 90), bool)
    mask[33, 47] = True
    (found,) = embed_masks(features, [mask], [None])
    np.testing.assert_allclose(found, features[3, 4], rtol=1e-5)


@pytest.mark.parametrize('most_for_tree', [20_000, 20])  # above: k-means
def test_true_clusters_are_found_largest_first_and_the_same_each_time(
    rng, monkeypatch, most_for_tree
):
    monkeypatch.setattr(grouping, '_MOST_FOR_TREE', most_for_tree)
    vectors, truth = clusters(rng)
    found, again = (group_vectors(vectors, 3, 5) for _ in range(2))
    expected = np.array([1, 0, 2])[truth]  # by falling size
    assert (found.group == expected).all() and found.is_sure.all()
    assert (again.group == found.group).all() and (again.distance == found.distance).all()


def test_instances_between_two_groups_or_alone_are_not_sure(rng):
    vectors, _ = clusters(rng, (30, 30))
    low, high = vectors[:1], vectors[0] + 100
    groups = group_vectors(np.concatenate([vectors, low, [high]]), 3)
    assert groups.is_sure[:-1].all() and not groups.is_sure[-1]
    line = np.zeros((9, 2), np.float32)
    line[:, 0] = [0, 0, 0, 0, 4.6, 10, 10, 10, 10]
    found = group_vectors(line, 2)
    assert found.is_sure.tolist() == [True] * 4 + [False] + [True] * 4
    assert found.distance.argmax() == 4


@pytest.mark.parametrize('count', [1, 2, 3])
def test_few_or_equal_instances_are_grouped(count):
    same = group_vectors(np.ones((count, 3), np.float32))
    assert same.group.tolist() == [0] * count and not same.distance.any()
    assert group_vectors(np.eye(count, 3, dtype=np.float32), count).group.max() == count - 1


def test_what_cannot_be_grouped_is_refused():
    for vectors, number in (
        (np.ones((0, 3)), None),
        (np.full((3, 3), np.inf), None),
        (np.ones((2, 3)), 3),
    ):
        with pytest.raises(ValueError, match='must'):
            group_vectors(vectors.astype(np.float32), number)


def test_a_group_of_two_kinds_splits_into_them(rng):
    vectors, truth = clusters(rng, (40, 15))
    assert (split_group(vectors) == (truth == 1)).all()


def test_there_are_twice_the_root_of_instances_and_no_more_groups_than_different_vectors(rng):
    assert group_vectors(rng.random((100, 5)).astype(np.float32)).group.max() == 19
    assert set(group_vectors(np.ones((6, 8), np.float32)).group) == {0}
    three = np.repeat(np.eye(3, dtype=np.float32), 30, axis=0)
    assert set(group_vectors(three).group) == {0, 1, 2}
