"""Link patches, cut them and refine masks on a device, by torch.

It computes what `affinity`, `depth`, `ncut` and `crf` compute. One device gives the same bits each
time: no sum is taken in the order in which threads happen to come.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import cycle
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cuts3d_mm.arrays import Float

from .affinity import LANES, no_links
from .depth import FLOOR, INLIER_PERCENTILES, patch_centres
from .params import CutParams, DepthFunction, ImportanceParams, Similarity

_LINKED_AT_ONCE = 4  # images; the work on each takes half a gigabyte at 3600 patches


_tf32_lock = Lock()
_tf32_before: list[list[bool]] = []  # one entry for each thread that forbids it


@contextmanager
def full_float32() -> Iterator[None]:
    """Forbid TF32 in products and convolutions on a GPU, which round factors to 10 bits.

    It is allowed again when the last thread that forbids it is done.
    """
    places: tuple[Any, ...] = torch.backends.cuda.matmul, torch.backends.cudnn
    with _tf32_lock:
        now = [place.allow_tf32 for place in places]
        _tf32_before.append(_tf32_before[0] if _tf32_before else now)
        for place in places:
            place.allow_tf32 = False
    try:
        yield
    finally:
        with _tf32_lock:
            before = _tf32_before.pop()
            if not _tf32_before:
                for place, allowed in zip(places, before, strict=True):
                    place.allow_tf32 = allowed


def launch_links(
    features: Sequence[Tensor],
    depths: Sequence[Tensor | Float | None],
    params: CutParams,
    similarity: Similarity,
) -> Callable[[], dict[str, NDArray[Any]]]:
    """Let a device link images; more work can be given to it meanwhile.

    Args:
        features: (h, w, C) tensors on the device, of one shape.
        depths: (H, W) arrays, or tensors on the device, larger is farther; None, all of them,
            where the parameters use none.
        similarity: how two features compare, 'cosine': features of networks have no other.

    Returns:
        What waits for the device, and returns of B images: words (B, W, N) of `PackedLinks`;
        is_finite (B,), whether features are finite; and, where the recipe has them, depth,
        importance and disparity (B, h, w), and depth_ends (B, 2), NaN or inf if any depth is.

    Raises:
        ValueError: another similarity.
    """
    if similarity != 'cosine':
        raise ValueError(f"similarity must be 'cosine' on a device, got {similarity!r}")
    with torch.no_grad(), full_float32():
        launched = _launch(torch.stack(list(features)), depths, params)
    # A copy that is not waited for goes to pinned memory, in the order of the device's work.
    is_gpu = features[0].device.type == 'cuda'
    copies = {name: value.to('cpu', non_blocking=is_gpu) for name, value in launched.items()}
    copied = torch.cuda.Event() if is_gpu else None
    if copied is not None:
        copied.record()

    def wait() -> dict[str, NDArray[Any]]:
        if copied is not None:
            copied.synchronize()
        return {name: value.numpy() for name, value in copies.items()}

    return wait


def _launch(
    features: Tensor, depths: Sequence[Tensor | Float | None], params: CutParams
) -> dict[str, Tensor]:
    device, grid_hw = features.device, (features.shape[1], features.shape[2])
    found = {'is_finite': torch.isfinite(features).flatten(1).all(1)}
    maps = [
        (one if isinstance(one, Tensor) else torch.from_numpy(np.ascontiguousarray(one)))
        .float()  # some devices have no double precision
        .to(device)
        for one in depths
        if one is not None
    ]
    importance = None
    if maps:
        ranks = torch.stack(
            [one.flatten().sort().values[_places(one.numel(), device)] for one in maps]
        )
        shares = [[place % 1 for place in _percentiles(one.numel())] for one in maps]
        found['depth_ends'] = ranks[:, :2]  # NaN is sorted to the end
        shares_there = torch.tensor(shares).to(device)
        bounds = _depth_bounds(ranks, shares_there, params.depth_outlier_spans)
        centres = torch.stack([_sample_centres(one, grid_hw) for one in maps])
        found['depth'] = _scale_depth(centres, bounds, params.depth_function)
        if params.background is not None:
            found['disparity'] = 1 - _scale_depth(centres, bounds, 'inverse')
        if params.importance is not None:
            importance = spatial_importance(found['depth'], params.importance)
            found['importance'] = importance
            importance = importance.flatten(1)
    found['words'] = link_words(features.flatten(1, 2), params.ncut.tau_ncut, importance)
    return found


def _percentiles(count: int) -> list[float]:
    """Places of percentiles among values that are sorted; they lie between two of them."""
    return [(count - 1) * percent / 100 for percent in INLIER_PERCENTILES]


@lru_cache(maxsize=64)
def _places(count: int, device: torch.device) -> Tensor:
    """Places of the ends and of what lies on both sides of each percentile."""
    near, far = _percentiles(count)
    places = 0, count - 1, int(near), math.ceil(near), int(far), math.ceil(far)
    return torch.tensor(places).to(device)


def _depth_bounds(
    ranks: Tensor, shares: Tensor, outlier_spans: float | None
) -> tuple[Tensor, Tensor]:
    """Nearest and farthest depths that count, as in `normalize_depth`.

    Args:
        ranks: (B, 6) lowest and highest depth, then what is below and above each percentile.
        shares: (B, 2) where the percentiles lie between the two values.
        outlier_spans: see `normalize_depth`.
    """
    low, high, *_ = ranks[..., None, None].unbind(1)
    if outlier_spans is None:
        return low, high
    below, above = ranks[:, 2::2], ranks[:, 3::2]
    near, far = (below + (above - below) * shares)[..., None, None].unbind(1)
    margin = outlier_spans * (far - near)
    is_flat = far <= near
    return (
        torch.where(is_flat, low, torch.maximum(low, near - margin)),
        torch.where(is_flat, high, torch.minimum(high, far + margin)),
    )


def _sample_centres(depth: Tensor, grid_hw: tuple[int, int]) -> Tensor:
    """Take the depth at each patch centre, as `resize_depth` does."""
    rows, columns = (
        _centres(size, cells, depth.device)
        for size, cells in zip(depth.shape, grid_hw, strict=True)
    )
    return depth.index_select(0, rows).index_select(1, columns)


@lru_cache(maxsize=64)
def _centres(size: int, cells: int, device: torch.device) -> Tensor:
    return torch.from_numpy(patch_centres(size, cells)).to(device)


def _scale_depth(depth: Tensor, bounds: tuple[Tensor, Tensor], function: DepthFunction) -> Tensor:
    """Scale depths to [0, 1] between two bounds, as `normalize_depth` does; equal ones give 0."""
    low, high = bounds
    if function != 'metric':
        shift = torch.where(low > 0, 0.0, FLOOR * (high - low) - low)
        depth = depth.clamp(low, high)
        positive = ((value + shift).clamp_min(1e-12) for value in (depth, low, high))
        depth, low, high = (one.log() if function == 'log' else -1 / one for one in positive)
    span = high - low
    scaled = ((depth - low) / torch.where(span > 0, span, 1.0)).clamp(0, 1)
    return torch.where(bounds[1] > bounds[0], scaled, 0.0)


def depth_from_disparity(disparity: Tensor) -> Tensor:
    """Invert (H, W) disparity that is known up to scale and shift, as `depth` does."""
    low, high = disparity.aminmax()
    nearness = (disparity - low) / torch.where(high > low, high - low, 1.0)
    return torch.where(high > low, 1 / (nearness + FLOOR), 0.0)


def spatial_importance(depth: Tensor, params: ImportanceParams) -> Tensor:
    """Mark what differs from its blurred neighbourhood in (B, h, w) depths (Eq. 1 and 2)."""
    rows, columns = (
        _blur_matrix(side, params.sigma_patches, depth.device) for side in depth.shape[1:]
    )
    difference = (rows @ depth @ columns.T - depth).abs()
    low, high = difference.amin((1, 2), True), difference.amax((1, 2), True)
    has_edges = high - low > 1e-6
    scaled = (difference - low) / torch.where(has_edges, high - low, 1.0)
    return (1 - params.beta) * torch.where(has_edges, scaled, 0.0) + params.beta


@lru_cache(maxsize=16)
def _blur_matrix(size: int, sigma: float, device: torch.device) -> Tensor:
    """(n, n) matrix that blurs n values, the outermost ones repeated."""
    from scipy.ndimage import gaussian_filter1d  # a quarter of a second to import

    matrix = gaussian_filter1d(np.eye(size), sigma, axis=0, mode='nearest')
    return torch.from_numpy(matrix.astype(np.float32)).to(device)


def link_words(features: Tensor, tau_ncut: float, importance: Tensor | None = None) -> Tensor:
    """Link the patches whose sharpened similarity exceeds a threshold, as `link_patches` does.

    Similarities within rounding of the threshold may fall on the other side of it than on
    another device.

    Args:
        features: (B, N, C).
        tau_ncut: threshold on the sharpened similarity, in (0, 1).
        importance: (B, N) in [0, 1], or None for no sharpening.

    Returns:
        (B, W, N) int16, the words of `PackedLinks`.
    """
    unit = torch.nn.functional.normalize(features.float(), dim=2)
    parts = importance.split(_LINKED_AT_ONCE) if importance is not None else cycle([None])
    words = [
        _link_words(part, tau_ncut, values)
        for part, values in zip(unit.split(_LINKED_AT_ONCE), parts, strict=False)
    ]
    return torch.cat(words)


def _link_words(unit: Tensor, tau_ncut: float, importance: Tensor | None) -> Tensor:
    cosines = unit @ unit.mT
    threshold: Tensor | float = tau_ncut
    if importance is not None:
        # d = 1: log(tau) / 0 = -inf, every positive similarity passes
        pairs = importance[:, :, None] * importance[:, None]
        threshold = torch.exp(math.log(tau_ncut) / (1 - pairs))
    upper = (cosines > threshold).triu()
    is_linked = upper | upper.mT  # rounding must not make the two directions differ
    num_images, count = unit.shape[:2]
    num_words = len(no_links(count).words)
    rows = torch.nn.functional.pad(is_linked.int(), (0, 0, 0, num_words * LANES - count))
    bits = 1 << torch.arange(LANES, device=unit.device, dtype=torch.int32)
    rows = rows.view(num_images, num_words, LANES, count) * bits[:, None]
    return rows.sum(2, dtype=torch.int32).to(torch.int16)  # bit 15 becomes the sign
