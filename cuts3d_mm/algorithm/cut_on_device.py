"""Cut and refine a batch of images on a device, by torch: what `ncut` and `crf` do on the CPU.

Images are cut in lock step: the device solves the graphs of all of them, then threads find the
minimum cuts. One device gives the same bits each time: no sum is taken in the order in which
threads happen to come.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cuts3d_mm.arrays import Double, Float, Mask, Pixels

from .affinity import LANES, PackedLinks
from .crf import enlarged_masks, lattice_axes, pixel_positions
from .cut_instances import ImageCuts, cutting_steps, linked, next_graph
from .ncut import Eigenpair, ritz_pair, second_eigenvector, to_eigenpair
from .on_device import full_float32
from .params import CrfParams, CutParams, NcutParams

_THREADS = 4  # that find minimum cuts
_MATRIX_BYTES = 2**31  # of the graphs that are solved together: 41 images of 3600 patches
_RUN = 32  # values that are summed one after the other


def require_on_device(params: CutParams) -> None:
    """Refuse a recipe that a device cannot follow.

    Raises:
        ValueError: the sign of eigenvectors is to be LAPACK's, whose solver is dense.
    """
    if params.ncut.sign == 'lapack':
        raise ValueError(
            "ncut.sign must be 'strongest' to cut on a device, got 'lapack'; cut on the CPU"
        )


class DeviceCutter:
    """Cuts batches of images on a device, one after the other, in a thread of its own.

    Raises:
        ValueError: a device cannot follow the recipe.
    """

    def __init__(self, params: CutParams, device: torch.device) -> None:
        require_on_device(params)
        self._params, self._device = params, device
        self._leader = ThreadPoolExecutor(1)
        self._threads = ThreadPoolExecutor(_THREADS)
        is_gpu = device.type == 'cuda'
        self._stream = torch.cuda.Stream(device) if is_gpu else None

    def start(self, images: Callable[[], Sequence[ImageCuts]]) -> Future[list[ImageCuts]]:
        """Begin to cut a batch, which a function waits for, when those before are done.

        Returns:
            The images without links, their instances refined in `on_edges`.
        """
        return self._leader.submit(self._cut, images)

    def _cut(self, images: Callable[[], Sequence[ImageCuts]]) -> list[ImageCuts]:
        # A stream of None would ask for the GPU of the machine, even where this is the CPU.
        used = nullcontext() if self._stream is None else torch.cuda.stream(self._stream)
        with used, torch.no_grad(), full_float32():
            cut = self._cut_patches(images())
            return [refine_on_device(one, self._params, self._device) for one in cut]

    def _cut_patches(self, images: Sequence[ImageCuts]) -> list[ImageCuts]:
        graphs = [linked(image) for image in images]
        steps = [cutting_steps(image, self._params) for image in images]
        states: list[Any] = [next_graph(one, None) for one in steps]
        while left := [i for i, state in enumerate(states) if not isinstance(state, ImageCuts)]:
            pairs = self._solve([graphs[index] for index in left], [states[i] for i in left])
            found = self._threads.map(next_graph, [steps[index] for index in left], pairs)
            for index, state in zip(left, found, strict=True):
                states[index] = state
        return states

    def _solve(
        self, graphs: Sequence[PackedLinks], free: Sequence[Mask]
    ) -> list[Eigenpair | None]:
        pairs: list[Eigenpair | None] = []
        most = max(1, _MATRIX_BYTES // (4 * len(graphs[0]) ** 2))
        for start in range(0, len(graphs), most):
            part = slice(start, start + most)
            pairs += second_eigenvectors(graphs[part], free[part], self._params.ncut, self._device)
        return pairs


def second_eigenvectors(
    graphs: Sequence[PackedLinks],
    free: Sequence[Mask],
    params: NcutParams,
    device: torch.device,
) -> list[Eigenpair | None]:
    """Solve Normalized Cut on several graphs as `ncut.second_eigenvector` does on one.

    That solves what is too small here, or does not converge.

    Args:
        graphs: links of all patches of the images, N each.
        free: (N,) each, False for patches that an instance has claimed.

    Raises:
        NoConvergence: no solver finds an eigenvector.
    """
    in_graph = [one if params.claimed == 'removed' else np.ones_like(one) for one in free]
    large = [i for i, one in enumerate(in_graph) if one.sum() > params.max_steps]
    found: dict[int, Eigenpair | None] = {}
    if large:
        is_linked = torch.stack([_unpacked(graphs[index], device) for index in large])
        masks = [np.stack([one[index] for index in large]) for one in (in_graph, free)]
        cut, counted = (torch.from_numpy(one).to(device).double() for one in masks)
        affinity = _Affinity(is_linked, cut, counted, params.epsilon)
        solved = _lanczos(affinity, list(masks[0]), params)
        for index, one in zip(large, solved, strict=True):
            if one is not None:
                found[index] = to_eigenpair(*one)
    for index, is_free in enumerate(free):
        if index not in found:
            links = graphs[index]
            if params.claimed == 'removed' and not is_free.all():
                links = links.among(is_free)
            found[index] = second_eigenvector(links, is_free, params)
    return [found[index] for index in range(len(free))]


def _unpacked(links: PackedLinks, device: torch.device) -> Tensor:
    """(N, N) of 0 and 1."""
    words = torch.from_numpy(links.words.view(np.int16)).to(device)
    bits = torch.arange(LANES, device=device, dtype=torch.int16)[:, None]
    is_linked = (words[:, None] >> bits) & 1
    return is_linked.flatten(0, 1)[: len(links)].float()


class _Affinity:
    """D^-1/2 W D^-1/2 of several graphs, see `ncut.NormalizedAffinity`.

    Args:
        is_linked: (B, N, N) of 0 and 1.
        in_graph: (B, N) 1 for patches of the graphs.
        is_free: (B, N) 1 for patches whose links count.
        epsilon: weight of a missing link.
    """

    def __init__(
        self, is_linked: Tensor, in_graph: Tensor, is_free: Tensor, epsilon: float
    ) -> None:
        self._is_linked, self._in_graph, self._is_free = is_linked, in_graph, is_free
        self._epsilon = epsilon
        degree = self._times(in_graph)
        self.inverse_root = torch.where(in_graph > 0, degree.clamp_min(1e-30).rsqrt(), 0.0)
        root = degree.sqrt()
        self.first_eigenvector = root / root.norm(dim=1, keepdim=True)

    def __call__(self, vectors: Tensor) -> Tensor:
        """Multiply by a vector each, (B, N)."""
        return self.inverse_root * self._times(self.inverse_root * vectors)

    def _times(self, vectors: Tensor) -> Tensor:
        single = (self._is_free * vectors).float()
        sums = torch.bmm(self._is_linked, single[..., None])[..., 0].double()
        everywhere = self._epsilon * vectors.sum(1, keepdim=True) * self._in_graph
        return everywhere + (1 - self._epsilon) * self._is_free * sums


def _lanczos(
    affinity: _Affinity, in_graph: Sequence[Mask], params: NcutParams
) -> list[tuple[Double, float, float] | None]:
    """Do the steps of `ncut` for all graphs; None for one that they are not enough for.

    Returns:
        (N,) solution of the generalized problem, value and gap of each graph.
    """
    first, count, steps = affinity.first_eigenvector, len(in_graph), params.max_steps
    basis = first.new_zeros((count, steps + 2, first.shape[1]))
    basis[:, 0] = first
    vectors = _starts(in_graph, params.start_seed, first.device)
    vectors = vectors - first * (first * vectors).sum(1, keepdim=True)
    basis[:, 1] = vectors / vectors.norm(dim=1, keepdim=True)
    diagonal, off_diagonal = np.empty((2, count, steps))
    found: list[tuple[Double, float, float] | None] = [None] * count
    previous: Tensor | None = None
    for step in range(steps):
        product = affinity(basis[:, step + 1])
        along = (basis[:, step + 1] * product).sum(1, keepdim=True)
        product = product - along * basis[:, step + 1]
        if previous is not None:
            product = product - previous * basis[:, step]
        known = basis[:, : step + 2]
        shares = torch.bmm(known, product[..., None])
        product = product - torch.bmm(shares.mT, known)[:, 0]
        previous = product.norm(dim=1, keepdim=True)
        diagonal[:, step], off_diagonal[:, step] = torch.cat([along, previous], 1).cpu().numpy().T
        for index in range(count):
            if found[index] is None:
                so_far = diagonal[index, : step + 1], off_diagonal[index, : step + 1]
                pair = ritz_pair(*so_far, params)
                if pair is not None:
                    weights = torch.from_numpy(np.ascontiguousarray(pair[0])).to(first.device)
                    vector = (weights @ basis[index, 1 : step + 2]) * affinity.inverse_root[index]
                    found[index] = vector.cpu().numpy(), *pair[1:]
        if all(one is not None for one in found):
            break
        basis[:, step + 2] = product / previous.clamp_min(1e-30)
    return found


def _starts(in_graph: Sequence[Mask], seed: int, device: torch.device) -> Tensor:
    """(B, N) the start vector of `ncut` at the patches of each graph."""
    starts = np.zeros((len(in_graph), len(in_graph[0])))
    for start, places in zip(starts, in_graph, strict=True):
        start[places] = np.random.default_rng(seed).standard_normal(int(places.sum()))
    return torch.from_numpy(starts).to(device)


def refine_on_device(image: ImageCuts, params: CutParams, device: torch.device) -> ImageCuts:
    """Refine the instances of an image that is cut, if the CRF is ours."""
    if params.refine.method != 'permutohedral' or image.resized is None or not image.instances:
        return image
    masks = enlarged_masks([one.patches for one in image.instances], image.resized)
    return replace(image, on_edges=refine_masks(masks, image.resized, params.refine.crf, device))


def refine_masks(masks: Mask, image: Pixels, params: CrfParams, device: torch.device) -> Mask:
    """Refine the masks of one image as `crf.refine_masks` does, (M, H, W)."""
    shape = masks.shape
    spatial = _spatial_lattice(shape[1:], params.spatial_sigma_px, params.spatial_weight, device)
    colors = torch.from_numpy(image.copy()).to(device).view(-1, 3).float().T
    places = _positions(shape[1:], device) / params.bilateral_sigma_px
    positions = torch.cat([places, colors / params.bilateral_sigma_rgb])
    bilateral = build_lattice(positions, params.bilateral_weight)
    rough = torch.from_numpy(masks.reshape(len(masks), -1)).to(device).T
    unary = torch.where(rough, params.unary_logit, -params.unary_logit).float()
    logits = unary
    for _ in range(params.num_iterations):
        field = torch.tanh(logits * 0.5)
        logits = unary + spatial(field) + bilateral(field)
    refined: Mask = (logits > 0).T.contiguous().cpu().numpy()
    return refined.reshape(shape)


@lru_cache(maxsize=4)
def _spatial_lattice(
    image_hw: tuple[int, ...], sigma_px: float, weight: float, device: torch.device
) -> DeviceLattice:
    return build_lattice(_positions(image_hw, device) / sigma_px, weight)


@lru_cache(maxsize=4)
def _positions(image_hw: tuple[int, ...], device: torch.device) -> Tensor:
    """(2, P) column and row of each pixel."""
    return torch.from_numpy(pixel_positions(*image_hw)).to(device)


@dataclass(frozen=True)
class DeviceLattice:
    """Where P points in d dimensions lie on a lattice of M vertices."""

    vertices: Tensor  # (P, d + 1) vertices of the simplex around each point
    weights: Tensor  # (P, d + 1) barycentric
    neighbors: Tensor  # (d + 1, M, 2) along each direction; M where there is none
    corners: Tensor  # (P * (d + 1),) numbers of the corners of points, by their vertex
    runs: Tensor  # (R + 1,) ends of runs of corners that have one vertex
    ends: Tensor  # (M + 1,) ends of the runs of each vertex

    def __call__(self, values: Tensor) -> Tensor:
        """Filter (P, n) values."""
        size = self.vertices.shape[1]
        weighted = self.weights.flatten()[self.corners, None] * values[self.corners // size]
        # Not scattered: atomic additions come in any order.
        sums = _sums(_sums(weighted, self.runs), self.ends)
        missing = sums.new_zeros((1, sums.shape[1]))
        for links in self.neighbors:
            padded = torch.cat([sums, missing])
            sums = sums + 0.5 * (padded[links[:, 0]] + padded[links[:, 1]])
        return (self.weights[..., None] * sums[self.vertices]).sum(1)


def _sums(values: Tensor, ends: Tensor) -> Tensor:
    return torch.segment_reduce(values, 'sum', offsets=ends, axis=0, initial=0.0)


def build_lattice(positions: Tensor, strength: float) -> DeviceLattice:
    """Build a lattice as `crf.build_lattice` does, and normalise its weights.

    Args:
        positions: (d, P) in units of the standard deviation, d from 1 to 5.
        strength: see `crf.normalize_weights`.
    """
    farthest: Float = positions.abs().amax(1).cpu().numpy()
    on_host = lattice_axes(farthest)
    scale, moves = (torch.from_numpy(one).to(positions.device) for one in on_host)
    size = len(moves)
    elevated = _elevated(positions * scale[:, None])
    multiples = torch.floor(elevated / size + 0.5)
    offsets = elevated - size * multiples
    order = torch.argsort(-offsets, dim=0, stable=True)
    ranked = offsets.gather(0, order)
    weights = (ranked - ranked.roll(-1, 0)) / size
    weights[-1] += 1
    # One vertex of the simplex; each further one is its neighbour along the next axis.
    base = -(moves[:, None] * multiples.long()).sum(0)
    walked = torch.cumsum(moves[order.flip(0)[:-1]], 0)
    keys = torch.cat([base[None], base + walked]).T.flatten()
    used, numbers, counts = keys.unique(return_inverse=True, return_counts=True)
    starts = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    corners = torch.argsort(numbers, stable=True)
    rank = torch.arange(len(keys), device=keys.device) - starts[numbers[corners]]
    runs = (rank % _RUN == 0).nonzero()[:, 0]
    runs = torch.cat([runs, runs.new_full((1,), len(keys))])
    ends = torch.cat([counts.new_zeros(1), ((counts + _RUN - 1) // _RUN).cumsum(0)])
    neighbors = torch.stack(
        [torch.stack([_found(used, used + way) for way in (move, -move)], 1) for move in moves]
    )
    weights = weights.flip(0).T.contiguous()
    vertices = numbers.view(-1, size)
    lattice = DeviceLattice(vertices, weights, neighbors, corners, runs, ends)
    density = lattice(positions.new_ones((positions.shape[1], 1)))
    return replace(lattice, weights=weights * torch.sqrt(strength / (density + 1e-20)))


def _elevated(scaled: Tensor) -> Tensor:
    """(d, P) -> (d + 1, P) coordinates whose sum is zero."""
    rows, total = [], torch.zeros_like(scaled[0])
    for axis in range(len(scaled), 0, -1):
        rows.append(total - axis * scaled[axis - 1])
        total = total + scaled[axis - 1]
    return torch.stack([total, *reversed(rows)])


def _found(used: Tensor, keys: Tensor) -> Tensor:
    """Places of keys among those used, which are sorted; M for one that is not there."""
    places = torch.searchsorted(used, keys).clamp_max(len(used) - 1)
    return torch.where(used[places] == keys, places, len(used))
