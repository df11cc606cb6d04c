"""Link patches whose features are alike, sharpened by spatial importance (Eq. 1 to 3).

The links of 3600 patches, one bit each, take 1.6 MB and stay in the cache where one byte per link
does not. A product with the graph adds each entry of the vector to those of 16 sums at a time
whose bit is set.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
from numpy.typing import NDArray

from cuts3d_mm.arrays import Float, Index

from .kernels.kernel import Kernel
from .params import ImportanceParams, Similarity

# Nodes of a tile of the affinity: large enough for the matrix product, small enough for the
# cache, whole words of links.
_TILE = 480
Words = NDArray[np.uint16]
LANES = 16  # bits of a word: one register of float32
WORDS_AT_ONCE = 8  # words of a node are a multiple of this: as many registers hold their sums


def normalize_features(features: Float) -> Float:
    """Scale every one of (N, C) patch features to length 1; a zero feature stays zero."""
    if features.ndim != 2:
        raise ValueError(f'features must have shape (N, C), got {features.shape}')
    features = np.ascontiguousarray(features, np.float32)
    length = np.sqrt(np.einsum('nc,nc->n', features, features))[:, None]
    return features / np.maximum(length, np.float32(1e-12))


def link_patches(
    features: Float,
    tau_ncut: float,
    importance: Float | None = None,
    similarity: Similarity = 'cosine',
) -> PackedLinks:
    """Link the patches whose sharpened similarity exceeds a threshold.

    Sharpening raises the similarity W to the power 1 - d (Eq. 3), d being the product of the
    importances of both patches. Comparing W^(1 - d) with tau is comparing W with
    tau^(1 / (1 - d)), so no power of a similarity is ever taken; d = 1 turns every positive
    similarity into a link.

    Args:
        features: (N, C) of any length.
        tau_ncut: threshold on the sharpened similarity, in (0, 1).
        importance: (N,) in [0, 1], or None for no sharpening.
        similarity: 'cosine' of two features, or 'gaussian': exp(-distance^2 / 2).

    Returns:
        The symmetric graph of N patches. The affinity that NCut sees is 1 where two are linked
        and epsilon elsewhere, as in MaskCut.
    """
    features = np.ascontiguousarray(features, np.float32)
    count = len(features)
    if importance is not None and importance.shape != (count,):
        raise ValueError(f'importance must have shape {(count,)}, got {importance.shape}')
    if not np.isfinite(features).all():
        raise ValueError('features must be finite, got NaN or inf')
    left, right = _factors(features, similarity)
    is_cosine = similarity == 'cosine'
    packed = no_links(count)
    starts = range(0, count, _TILE)
    for row, column in combinations_with_replacement(starts, 2):
        rows, columns = slice(row, row + _TILE), slice(column, column + _TILE)
        values = left[rows] @ right[columns].T
        threshold: Float | float = tau_ncut if is_cosine else float(np.log(tau_ncut))
        if importance is not None:
            threshold = _log_threshold(importance[rows, None] * importance[columns], tau_ncut)
            if is_cosine:
                np.exp(threshold, out=threshold)
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


def _log_threshold(pairs: Float, tau_ncut: float) -> Float:
    exponent = np.subtract(np.float32(1), pairs, out=pairs)
    with np.errstate(divide='ignore'):  # d = 1: log 0 = -inf, every positive similarity passes
        return np.divide(np.float32(np.log(tau_ncut)), exponent, out=exponent)


def spatial_importance(depth: Float, params: ImportanceParams) -> Float:
    """Mark the patches whose depth, (h, w) in [0, 1], differs from its blurred neighbourhood.

    Returns:
        (h, w) importance in [beta, 1]; beta everywhere where the depth is constant.
    """
    from scipy.ndimage import gaussian_filter  # a quarter of a second to import

    blurred = gaussian_filter(depth, params.sigma_patches, mode='nearest')
    difference = np.abs(blurred - depth)  # Eq. 1
    low, high = difference.min(), difference.max()
    # Blurring a constant map leaves rounding noise, which Eq. 2 would blow up to [beta, 1].
    if high - low <= 1e-6:
        return np.full(depth.shape, params.beta, np.float32)
    scaled = (difference - low) / (high - low)
    return ((1 - params.beta) * scaled + params.beta).astype(np.float32)  # Eq. 2


@dataclass(frozen=True)
class PackedLinks:
    """Links between N nodes and M of them, called neighbours; M = N for the whole graph."""

    # (W, M) with 16 W >= N: bit b of [w, j] is the link of node 16 w + b and neighbour j.
    # W is a multiple of 8.
    words: Words
    num_nodes: int

    def __len__(self) -> int:
        return self.num_nodes

    def only_to(self, is_kept: NDArray[np.bool_]) -> PackedLinks:
        """Keep only some of the M neighbours."""
        return PackedLinks(self.words.take(np.flatnonzero(is_kept), axis=1), self.num_nodes)

    def among(self, is_kept: NDArray[np.bool_]) -> PackedLinks:
        """Keep some of the N nodes of a whole graph, and the links between them."""
        kept = np.flatnonzero(is_kept)
        part = no_links(len(kept))
        _take_nodes(self.words.take(kept, axis=1), kept, part.words)
        return part

    def unpack(self) -> NDArray[np.uint8]:
        """Return the links as an (M, N) array of 0 and 1."""
        octets = np.ascontiguousarray(self.words.T).view(np.uint8)
        return np.unpackbits(octets, axis=1, count=self.num_nodes, bitorder='little')


def no_links(count: int) -> PackedLinks:
    """Make a graph of N nodes and no links, for `write_links` to fill."""
    num_blocks = -(-count // (LANES * WORDS_AT_ONCE))
    return PackedLinks(np.zeros((num_blocks * WORDS_AT_ONCE, count), np.dtype('<u2')), count)


def write_links(packed: PackedLinks, block: NDArray[np.bool_], row: int, column: int) -> None:
    """Write the links between some nodes and some that are not before them, in both directions.

    Args:
        packed: is changed; these links must be empty.
        block: (B, C), the links of nodes `row` to `row` + B with nodes `column` to `column` + C.
            On the diagonal, where B = C, entries below it are not used but overwritten.
        row: a multiple of 16.
        column: a multiple of 16, `row` on the diagonal, else at least `row` + B.
    """
    num_rows, num_columns = block.shape
    if row == column:
        _mirror(block)
    else:
        words = packed.words[row // LANES :, column : column + num_columns]
        _pack_columns(block.view(np.uint8), words)
    octets = np.packbits(block, axis=1, bitorder='little')
    row_words = np.zeros((num_rows, -(-num_columns // LANES)), packed.words.dtype)
    row_words.view(np.uint8)[:, : octets.shape[1]] = octets
    first_word = column // LANES
    words = packed.words[first_word : first_word + row_words.shape[1], row : row + num_rows]
    words[:] = row_words.T


def linked_sums(links: PackedLinks, vector: Float) -> Float:
    """Multiply the 0/1 graph by a vector, (M,) float32 with an entry for each neighbour."""
    sums = np.zeros((len(links.words), LANES), np.float32)
    if len(vector):
        _add_linked(links.words, np.ascontiguousarray(vector), sums)
    return sums.reshape(-1)[: links.num_nodes]


def _mirror_plain(block: NDArray[np.bool_]) -> None:
    """Copy the upper triangle into the lower one: rounding must not make them differ."""
    square = block[:, : len(block)]
    np.copyto(square, square.T.copy(), where=np.tri(len(block), k=-1, dtype=bool))


def _pack_columns_plain(block: NDArray[np.uint8], words: Words) -> None:
    """Set bit r of word w of column i to entry (16 w + r, i) of the block."""
    columns = np.ascontiguousarray(block.T)
    octets = np.zeros((len(columns), 2 * len(words)), np.uint8)
    packed = np.packbits(columns, axis=1, bitorder='little')
    octets[:, : packed.shape[1]] = packed
    words |= octets.view(words.dtype).T


def _add_linked_plain(words: Words, vector: Float, sums: Float) -> None:
    """Add entry j of the vector to sum 16 w + b where bit b of [w, j] is set, one j at a time.

    The order of the additions is that of the compiled code, so that the sums are equal.
    """
    for column, entry in zip(words.T, vector, strict=True):
        octets = np.ascontiguousarray(column).view(np.uint8)
        is_linked = np.unpackbits(octets, bitorder='little').astype(bool).reshape(sums.shape)
        np.add(sums, entry, out=sums, where=is_linked)


def _take_nodes_plain(words: Words, nodes: Index, taken: Words) -> None:
    """Set bit b of word w to that of node `nodes[16 w + b]`, in empty words."""
    octets = np.ascontiguousarray(words.T).view(np.uint8)
    links = np.unpackbits(octets, axis=1, bitorder='little').take(nodes, axis=1)
    packed = np.packbits(links, axis=1, bitorder='little')
    whole = np.zeros((words.shape[1], 2 * len(taken)), np.uint8)
    whole[:, : packed.shape[1]] = packed
    taken[:] = whole.view(taken.dtype).T


_take_nodes = Kernel('links.take_nodes', _take_nodes_plain)
_mirror = Kernel('links.mirror', _mirror_plain)
_pack_columns = Kernel('links.pack_columns', _pack_columns_plain)
_add_linked = Kernel('links.add_linked', _add_linked_plain)
