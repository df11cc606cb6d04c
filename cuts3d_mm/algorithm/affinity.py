"""Link patches whose features are alike, sharpened by spatial importance (Eq. 3)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations_with_replacement

import numpy as np

from cuts3d_mm.algorithm.packed_links import PackedLinks, no_links, write_links
from cuts3d_mm.algorithm.params import PairRule, Similarity
from cuts3d_mm.arrays import Float

# Nodes of a tile of the affinity: large enough for the matrix product, small enough for the
# cache, whole words of links.
_TILE = 480


def normalize_features(features: Float) -> Float:
    """Scale every patch feature to length 1; a zero feature stays zero.

    Args:
        features: (N, C).
    """
    if features.ndim != 2:
        raise ValueError(f'features must have shape (N, C), got {features.shape}')
    features = np.ascontiguousarray(features, np.float32)
    length = np.sqrt(np.einsum('nc,nc->n', features, features))[:, None]
    return features / np.maximum(length, np.float32(1e-12))


def link_patches(
    features: Float,
    tau_ncut: float,
    importance: Float | None = None,
    pair_rule: PairRule = 'product',
    similarity: Similarity = 'cosine',
) -> PackedLinks:
    """Link the patches whose sharpened similarity exceeds a threshold.

    Sharpening raises the similarity W to the power 1 - d (Eq. 3), d being the importance of the
    pair. Comparing W^(1 - d) with tau is comparing W with tau^(1 / (1 - d)), so no power of
    a similarity is ever taken; d = 1 turns every positive one into a link.

    Args:
        features: (N, C) of any length.
        tau_ncut: threshold on the sharpened similarity, in (0, 1).
        importance: (N,) in [0, 1], or None for no sharpening.
        pair_rule: how the importances of two patches become one.
        similarity: 'cosine' of two features, or 'gaussian': exp(-distance^2 / 2).

    Returns:
        The symmetric graph of N patches. The affinity that NCut sees is 1 where two are linked
        and epsilon elsewhere, as in MaskCut.
    """
    if not 0 < tau_ncut < 1:
        raise ValueError(f'tau_ncut must lie in (0, 1), got {tau_ncut}')
    features = np.ascontiguousarray(features, np.float32)
    count = len(features)
    if importance is not None and importance.shape != (count,):
        raise ValueError(f'importance must have shape {(count,)}, got {importance.shape}')
    if not np.isfinite(features).all():
        raise ValueError('features must be finite, got NaN or inf')
    left, right = _factors(features, similarity)
    packed = no_links(count)
    starts = range(0, count, _TILE)
    for row, column in combinations_with_replacement(starts, 2):
        rows, columns = slice(row, row + _TILE), slice(column, column + _TILE)
        values = left[rows] @ right[columns].T
        threshold: Float | float = tau_ncut if similarity == 'cosine' else float(np.log(tau_ncut))
        if importance is not None:
            pairs = _PAIR_RULES[pair_rule](importance[rows, None], importance[columns])
            threshold = _THRESHOLDS[similarity](pairs, tau_ncut)
        write_links(packed, values > threshold, row, column)
    return packed


def _factors(features: Float, similarity: Similarity) -> tuple[Float, Float]:
    """Two matrices whose product holds the cosines, or the logarithms of the Gaussian kernel."""
    if similarity == 'cosine':
        unit = normalize_features(features)
        return unit, unit
    centred = features - features.mean(axis=0)  # keeps the squares below small
    half_square = 0.5 * np.einsum('nc,nc->n', centred, centred)[:, None]
    ones = np.ones_like(half_square)
    left = np.concatenate([centred, -half_square, -ones], axis=1)
    right = np.concatenate([centred, ones, half_square], axis=1)
    return left.astype(np.float32), right.astype(np.float32)


def _cosine_threshold(pairs: Float, tau_ncut: float) -> Float:
    logarithm = _log_threshold(pairs, tau_ncut)
    return np.exp(logarithm, out=logarithm)


def _log_threshold(pairs: Float, tau_ncut: float) -> Float:
    exponent = np.subtract(np.float32(1), pairs, out=pairs)
    with np.errstate(divide='ignore'):  # d = 1: log 0 = -inf, every positive similarity passes
        return np.divide(np.float32(np.log(tau_ncut)), exponent, out=exponent)


_THRESHOLDS: dict[Similarity, Callable[[Float, float], Float]] = {
    'cosine': _cosine_threshold,
    'gaussian': _log_threshold,
}
_PAIR_RULES: dict[PairRule, Callable[[Float, Float], Float]] = {
    'product': np.multiply,
    'mean': lambda a, b: (a + b) * np.float32(0.5),
    'max': np.maximum,
}
