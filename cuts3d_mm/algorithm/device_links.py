"""Link patches on the device that their features are on, in float32.

A bfloat16 product would move similarities across the threshold.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from cuts3d_mm.algorithm.full_float32 import full_float32
from cuts3d_mm.algorithm.link_layout import LANES
from cuts3d_mm.algorithm.packed_links import PackedLinks, no_links
from cuts3d_mm.algorithm.params import PairRule, Similarity
from cuts3d_mm.arrays import Float

if TYPE_CHECKING:
    from torch import Tensor


def link_patches_on_device(
    features: Tensor,
    tau_ncut: float,
    importance: Float | None = None,
    pair_rule: PairRule = 'product',
    similarity: Similarity = 'cosine',
) -> PackedLinks:
    """Link the patches whose sharpened similarity exceeds a threshold, as `link_patches` does.

    Only the links leave the device, one bit each. Similarities within rounding of the threshold
    may fall on the other side of it than on another device.

    Args:
        features: (N, C) on any device.
        tau_ncut: threshold on the sharpened similarity, in (0, 1).
        importance: (N,) in [0, 1], or None for no sharpening.
        pair_rule: how the importances of two patches become one.
        similarity: 'cosine'; features of networks have no other.

    Raises:
        ValueError: another similarity, or features that are not finite.
    """
    import torch

    if similarity != 'cosine':
        raise ValueError(f"similarity must be 'cosine' on a device, got {similarity!r}")
    if not torch.isfinite(features).all():
        raise ValueError('features must be finite, got NaN or inf')
    unit = torch.nn.functional.normalize(features.float(), dim=1)
    with torch.no_grad(), full_float32():
        cosines = unit @ unit.T
    threshold: Tensor | float = tau_ncut
    if importance is not None:
        values = torch.from_numpy(np.ascontiguousarray(importance)).to(unit.device)
        pairs = _pair_on_device(values[:, None], values[None, :], pair_rule)
        # d = 1: log(tau) / 0 = -inf, every positive similarity passes
        threshold = torch.exp(math.log(tau_ncut) / (1 - pairs))
    return _pack(cosines > threshold)


def _pair_on_device(first: Tensor, second: Tensor, rule: PairRule) -> Tensor:
    import torch

    if rule == 'mean':
        return (first + second) * 0.5
    return torch.maximum(first, second) if rule == 'max' else first * second


def _pack(is_linked: Tensor) -> PackedLinks:
    """Pack an (N, N) matrix whose upper triangle counts."""
    import torch

    upper = is_linked.triu()
    is_linked = upper | upper.T  # rounding must not make the two directions differ
    packed = no_links(len(is_linked))
    num_words = len(packed.words)
    words = is_linked.new_zeros((num_words, len(is_linked)), dtype=torch.int32)
    for bit in range(LANES):
        rows = is_linked[bit::LANES]  # nodes 16 w + bit
        words[: len(rows)] |= rows.int() << bit
    packed.words[:] = words.cpu().numpy().astype(packed.words.dtype)
    return packed
