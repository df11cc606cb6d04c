"""Describe instances by vectors, and put those that look alike into groups, for names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cuts3d_mm.arrays import Double, Float, Index, Mask

# All numbers are ours, see docs/recipes/names.md.
_NUM_COMPONENTS = 64  # most dimensions that PCA leaves
_MOST_FOR_TREE = 20_000  # instances; a tree needs 4 bytes for the square of their number
_GROUPS_PER_ROOT = 2.0  # usual number of groups by the square root of instances
_SURE_RATIO = 0.8  # distance to the own centre, as a share of that to the next centre


@dataclass(frozen=True)
class Groups:
    """Groups of N instances; group 0 is the largest."""

    group: Index  # (N,)
    distance: Float  # (N,) to the centre of the own group; the most typical instance has least
    is_sure: Mask  # (N,) whether the rest of the own group is much nearer than the next group
    vectors: Float  # (N, D) what distances are measured between


def embed_masks(
    features: NDArray[Any], masks: Sequence[Mask], confidences: Sequence[Float | None]
) -> Float:
    """Average the patch features inside each mask, weighted by confidence.

    Args:
        features: (h, w, C) patch features, of length 1 if they compare by their cosine.
        masks: (H, W) masks that are not empty, of the image that the features cover.
        confidences: map of each mask on a grid of any size, in [0, 1]; None: all is certain.

    Returns:
        (N, C), a vector for each mask.
    """
    flat = features.reshape(-1, features.shape[-1]).astype(np.float32)
    vectors = np.empty((len(masks), flat.shape[1]), np.float32)
    for index, (mask, confidence) in enumerate(zip(masks, confidences, strict=True)):
        weights = share = _pool(mask, features.shape[:2])
        if confidence is not None:
            weights = share * _pool(confidence, features.shape[:2])
        weights = weights if weights.sum() > 0 else share
        vectors[index] = weights.ravel() @ flat / max(float(weights.sum()), 1e-12)
    return vectors


def _pool(values: Mask | Float, grid_hw: tuple[int, int]) -> Float:
    picture = Image.fromarray(np.asarray(values, np.float32))
    return np.asarray(picture.resize(grid_hw[::-1], Image.Resampling.BOX))


def group_vectors(vectors: Float, num_groups: int | None = None, seed: int = 0) -> Groups:
    """Put vectors that are alike into groups: PCA, then Ward's tree, or k-means for many.

    Args:
        vectors: (N, C) finite.
        num_groups: number of groups, from 1 to N; None: twice the square root of N, and at
            most the number of different vectors.
        seed: seed for what is drawn at random; the same seed gives the same groups.

    Raises:
        ValueError: too few vectors for the groups, or vectors that are not finite.
        ImportError: scikit-learn is missing.
    """
    if not len(vectors) or not np.isfinite(vectors).all():
        raise ValueError(f'vectors must be finite and at least one, got {vectors.shape}')
    if num_groups is not None and not 1 <= num_groups <= len(vectors):
        raise ValueError(
            f'the number of groups must lie between 1 and the {len(vectors)} instances, got '
            f'{num_groups}'
        )
    if find_spec('sklearn') is None:
        raise ImportError("grouping needs scikit-learn: pip install 'cuts3d_mm[group]'")
    reduced = _reduce(vectors)
    if num_groups is None:
        usual = round(_GROUPS_PER_ROOT * len(vectors) ** 0.5)
        num_groups = min(usual, len({vector.tobytes() for vector in vectors}))
    found = _cluster(reduced, num_groups, seed)
    # Numbered by falling size; of equal groups the one of the earlier instance comes first.
    _, first, group, counts = np.unique(found, True, True, return_counts=True)
    order = np.lexsort((first, -counts))
    return _measure(reduced, np.argsort(order)[group])


def _measure(vectors: Float, group: Index) -> Groups:
    """Measure how typical each instance is of its group, 0 to G - 1."""
    counts = np.bincount(group)
    centres = np.stack([vectors[group == one].mean(axis=0) for one in range(len(counts))])
    own, next_ = np.linalg.norm(vectors - centres[group], axis=1), np.full(len(vectors), np.inf)
    for one, centre in enumerate(centres):  # no (N, G, D) in memory
        others = np.flatnonzero(group != one)
        found = np.linalg.norm(vectors[others] - centre, axis=1)
        next_[others] = np.minimum(next_[others], found)
    # To the centre of the others of the group: an instance draws the centre towards itself.
    size = counts[group]
    to_others = own * size / np.maximum(size - 1, 1)
    is_sure = (size > 1) & (to_others <= _SURE_RATIO * next_)
    return Groups(group, own.astype(np.float32), is_sure, vectors)


def split_group(vectors: Float) -> Mask:
    """Divide the (N, D) vectors of a group, two or more, in two; True marks the smaller part."""
    found = _cluster(vectors, 2, seed=0) == 1
    return found if found.sum() * 2 <= len(found) else ~found


def _reduce(vectors: Float) -> Float:
    """Centre (N, C) vectors and turn them to their main directions."""
    centred = vectors.astype(np.float32) - vectors.mean(axis=0, dtype=np.float64)
    covariance: Double = (centred.T @ centred).astype(np.float64)
    directions = np.linalg.eigh(covariance)[1][:, ::-1][:, :_NUM_COMPONENTS]
    return np.asarray(centred @ directions, np.float32)


def _cluster(vectors: Float, num_groups: int, seed: int) -> Index:
    if num_groups == 1:
        return np.zeros(len(vectors), np.int64)
    from sklearn.cluster import AgglomerativeClustering, MiniBatchKMeans

    if len(vectors) <= _MOST_FOR_TREE:
        model = AgglomerativeClustering(num_groups, linkage='ward')
    else:
        model = MiniBatchKMeans(num_groups, random_state=seed, n_init=3, batch_size=4096)
    return np.asarray(model.fit_predict(vectors), np.int64)
