"""Refine masks to image size with a dense CRF over color and position."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cuts3d_mm.arrays import Float, Index, Mask

from .kernels.kernel import Kernel
from .masks import enlarge_patches, fill_holes, mask_iou, resize_bicubic, resize_linear
from .params import CrfParams, RefineParams

LANES = 4, 8  # masks filtered together: a vector register of float32
Nodes = NDArray[np.uint32]
_KEY_BITS = 12  # of one lattice coordinate in the key of a vertex
_REACH = 2 ** (_KEY_BITS - 1) - 64  # largest coordinate, with room for the neighbours


class Lattice(NamedTuple):
    """Where P points in d dimensions lie on a lattice of M vertices."""

    vertices: Nodes  # (P, d + 1) vertices of the simplex around each point
    weights: Float  # (P, d + 1) barycentric, summing to 1
    neighbors: Nodes  # (d + 1, M, 2) along each direction; M where there is none


_Arrays = tuple[Nodes, Float, Nodes]  # of a lattice


def refine_masks(masks: Mask, image: NDArray[np.uint8], params: CrfParams) -> Mask:
    """Refine the masks of one image.

    Args:
        masks: (M, H, W).
        image: (H, W, 3) uint8 RGB.

    Returns:
        (M, H, W) refined masks.
    """
    if masks.shape[1:] != image.shape[:2] or image.shape[2:] != (3,):
        raise ValueError(
            f'image must have shape {(*masks.shape[1:], 3)} like the masks, got {image.shape}'
        )
    if len(masks) == 0:
        return masks.copy()
    height, width = image.shape[:2]
    refined = infer_masks(
        np.ascontiguousarray(masks.reshape(len(masks), -1), bool),
        params.unary_logit,
        params.num_iterations,
        _spatial_lattice(height, width, params.spatial_sigma_px, params.spatial_weight),
        _bilateral_lattice(image, params),
    )
    return refined.reshape(masks.shape)


def refine_masks_pydensecrf(masks: Mask, image: NDArray[np.uint8], params: CrfParams) -> Mask:
    """Refine masks as `refine_masks` does, one by one with the library that MaskCut uses."""
    try:
        from pydensecrf import densecrf
    except ImportError as error:
        raise ImportError(
            "method 'pydensecrf' needs the package: pip install pydensecrf2, "
            "or choose 'permutohedral'"
        ) from error
    height, width = image.shape[:2]
    refined = np.empty_like(masks)
    for index, mask in enumerate(masks):
        field = densecrf.DenseCRF2D(width, height, 2)
        half = params.unary_logit / 2 * np.where(mask.ravel(), 1, -1)
        field.setUnaryEnergy(np.stack([half, -half]).astype(np.float32))
        field.addPairwiseGaussian(params.spatial_sigma_px, params.spatial_weight)
        field.addPairwiseBilateral(
            params.bilateral_sigma_px,
            params.bilateral_sigma_rgb,
            np.array(image, order='C'),  # the library wants a writable buffer
            params.bilateral_weight,
        )
        probability = np.array(field.inference(params.num_iterations))
        refined[index] = (probability[1] > probability[0]).reshape(height, width)
    return refined


@lru_cache(maxsize=4)
def _spatial_lattice(height: int, width: int, sigma_px: float, weight: float) -> Lattice:
    positions = pixel_positions(height, width) / np.float32(sigma_px)
    return normalize_weights(build_lattice(positions), weight)


def _bilateral_lattice(image: NDArray[np.uint8], params: CrfParams) -> Lattice:
    height, width = image.shape[:2]
    positions = np.empty((5, height * width), np.float32)
    positions[:2] = pixel_positions(height, width)
    positions[:2] /= np.float32(params.bilateral_sigma_px)
    positions[2:] = image.reshape(-1, 3).T
    positions[2:] /= np.float32(params.bilateral_sigma_rgb)
    return normalize_weights(build_lattice(positions), params.bilateral_weight)


def pixel_positions(height: int, width: int) -> Float:
    """(2, P) column and row of each pixel."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([columns.ravel(), rows.ravel()]).astype(np.float32)


def filter_values(lattice: Lattice, values: Float) -> Float:
    """Apply the Gaussian of a lattice to (P, n) values at its points.

    The result is not normalised: a constant 1 comes back in proportion to the local density.
    """
    flat = np.ascontiguousarray(values, np.float32).ravel()
    return _filter(*lattice, flat, _lanes(values.shape[1])).reshape(values.shape)


def normalize_weights(lattice: Lattice, strength: float) -> Lattice:
    """Scale the weights of a lattice for use in `infer_masks`.

    A filter with them is the Gaussian, divided by the root of the local density before and after,
    times the strength.
    """
    density = filter_values(lattice, np.ones((len(lattice.vertices), 1), np.float32))
    factors = np.sqrt(np.float32(strength) / (density + np.float32(1e-20)))
    return lattice._replace(weights=lattice.weights * factors)


def infer_masks(
    masks: Mask, logit: float, num_iterations: int, spatial: Lattice, bilateral: Lattice
) -> Mask:
    """Infer (M, P) masks from rough ones by mean field iterations.

    With two labels the field is one number per point, the log odds z, and the message is a filter
    of q1 - q0 = tanh(z / 2).

    Args:
        masks: (M, P).
        logit: log odds of a point to be on a mask that holds it.
        spatial: normalised lattice in 2 dimensions.
        bilateral: normalised lattice in 5 dimensions.
    """
    lattices = spatial[:], bilateral[:]  # numba takes plain tuples
    inferred = []
    for start in range(0, len(masks), LANES[-1]):
        part = masks[start : start + LANES[-1]]
        lanes = _lanes(next(width for width in LANES if len(part) <= width))
        inferred.append(_infer(part, np.float32(logit), num_iterations, *lattices, lanes))
    return np.concatenate(inferred)


def _lanes(width: int) -> tuple[int, ...]:
    return tuple(range(width))  # its length is a part of its type: numba compiles for each


def _filter_plain(
    vertices: Nodes, weights: Float, neighbors: Nodes, values: Float, lanes: tuple[int, ...]
) -> Float:
    values = values.reshape(len(vertices), -1)
    lattice = np.zeros((neighbors.shape[1] + 1, values.shape[1]), np.float32)
    corners = range(vertices.shape[1])
    for corner in corners:
        np.add.at(lattice, vertices[:, corner], weights[:, corner, None] * values)
    for links in neighbors:
        lattice[:-1] += np.float32(0.5) * (lattice[links[:, 0]] + lattice[links[:, 1]])
    filtered = np.zeros_like(values)
    for corner in corners:
        filtered += weights[:, corner, None] * lattice[vertices[:, corner]]
    return filtered.ravel()


def _infer_plain(
    masks: Mask,
    logit: np.float32,
    num_iterations: int,
    spatial: _Arrays,
    bilateral: _Arrays,
    lanes: tuple[int, ...],
) -> Mask:
    unary = np.where(masks.T, logit, -logit)
    logits = unary
    for _ in range(num_iterations):
        field = np.tanh(logits * np.float32(0.5))
        logits = unary.copy()
        for lattice in (spatial, bilateral):
            logits += _filter_plain(*lattice, field.ravel(), lanes).reshape(field.shape)
    return logits.T > 0


_filter = Kernel('lattice.filter_values', _filter_plain)
_infer = Kernel('lattice.infer_masks', _infer_plain)


def build_lattice(positions: Float) -> Lattice:
    """Build the lattice of a Gaussian of unit standard deviation.

    Args:
        positions: (d, P) in units of the standard deviation, d from 1 to 5.

    Raises:
        ValueError: wrong d, or positions so far out that keys of vertices would overflow.
    """
    if positions.ndim != 2 or not 1 <= len(positions) <= 5:
        raise ValueError(f'positions must have shape (1..5, P), got {positions.shape}')
    positions = np.ascontiguousarray(positions, np.float32)
    farthest = np.maximum(positions.max(axis=1), -positions.min(axis=1))
    return Lattice(*_lay_out(positions, *lattice_axes(farthest)))


def lattice_axes(farthest: Float) -> tuple[Float, Index]:
    """Scale positions for a lattice, and number the moves along its directions.

    Args:
        farthest: (d,) largest absolute positions, in units of the standard deviation.

    Returns:
        (d,) factors, and (d + 1,) differences between the keys of neighbouring vertices.

    Raises:
        ValueError: positions so far out that keys of vertices would overflow.
    """
    dimensions = len(farthest)
    axis = np.arange(1, dimensions + 1, dtype=np.float32)
    scale = np.float32(np.sqrt(2 / 3) * (dimensions + 1)) / np.sqrt(axis * (axis + 1))
    # A coordinate of the elevated point is a sum of scaled ones and at most d times another.
    farthest = farthest * scale
    reach = float(farthest.sum() + (farthest * axis).max()) + dimensions + 1
    if not reach <= _REACH:
        raise ValueError(
            f'positions must span less than {_REACH} lattice cells, got {reach:.0f}; '
            'use larger standard deviations or a smaller image'
        )
    cells = np.array([1 << (_KEY_BITS * i) for i in range(dimensions)] + [0], np.int64)
    return scale.astype(np.float32), cells.sum() - (dimensions + 1) * cells


def _lay_out_plain(positions: Float, scale: Float, moves: Index) -> tuple[Nodes, Float, Nodes]:
    size = len(moves)
    elevated = _elevate(positions * scale[:, None])
    multiples = np.floor(elevated / np.float32(size) + np.float32(0.5)).astype(np.int64)
    offsets = elevated - np.float32(size) * multiples
    order = np.argsort(-offsets, axis=0, kind='stable')
    ranked = np.take_along_axis(offsets, order, axis=0)
    weights = (ranked - np.roll(ranked, -1, axis=0)) / np.float32(size)
    weights[-1] += 1
    # One vertex of the simplex; each further one is its neighbour along the next axis.
    base, walked = -moves @ multiples, np.cumsum(moves[order[:0:-1]], axis=0)
    keys = np.concatenate([base[None], base + walked]).T
    used, numbers = np.unique(keys.ravel(), return_inverse=True)
    vertices: Nodes = numbers.reshape(keys.shape).astype(np.uint32)
    return vertices, np.ascontiguousarray(weights[::-1].T), _link(used, moves)


def _elevate(scaled: Float) -> Float:
    """Map (d, P) points into the plane of d + 1 coordinates whose sum is zero."""
    elevated = np.empty((len(scaled) + 1, scaled.shape[1]), np.float32)
    total = np.zeros(scaled.shape[1], np.float32)
    for axis in range(len(scaled), 0, -1):
        elevated[axis] = total - np.float32(axis) * scaled[axis - 1]
        total += scaled[axis - 1]
    elevated[0] = total
    return elevated


def _link(keys: Index, moves: Index) -> Nodes:
    """Find the neighbours of vertices with the given keys, which are sorted."""
    count, size = len(keys), len(moves)
    neighbors = np.full((size, count, 2), count, np.uint32)
    for direction, move in enumerate(moves):
        places = np.searchsorted(keys, keys + move)
        found = np.flatnonzero(keys[np.minimum(places, count - 1)] == keys + move)
        neighbors[direction, found, 0] = places[found]
        neighbors[direction, places[found], 1] = found
    return neighbors


_lay_out = Kernel('lattice.lay_out', _lay_out_plain)


def refine_to_image(
    patch_masks: list[Mask],
    image: NDArray[np.uint8],
    image_hw: tuple[int, int],
    params: RefineParams,
    refined: Mask | None = None,
) -> list[tuple[Mask | None, float]]:
    """Refine patch masks along the image's edges and bring them to its original size.

    Args:
        patch_masks: (h, w) masks.
        image: (H'', W'', 3) uint8 RGB, resized.
        refined: (M, H'', W'') what `refine_masks` makes of the masks, where a device has done it.

    Returns:
        For each patch mask the (H, W) mask and its IoU before and after the refinement; None in
        place of a mask that changed beyond `params.min_iou` or vanished at the original size.
    """
    if not patch_masks:
        return []
    enlarged = enlarged_masks(patch_masks, image)
    if refined is None:
        refined = _refine(enlarged, image, params)
    resize = resize_linear if params.resize == 'linear' else resize_bicubic
    results: list[tuple[Mask | None, float]] = []
    for before, after in zip(enlarged, refined, strict=True):
        filled = fill_holes(after)
        iou = mask_iou(before, filled)
        resized = resize(filled, image_hw) if iou >= params.min_iou else None
        results.append((resized if resized is not None and resized.any() else None, iou))
    return results


def enlarged_masks(patch_masks: Sequence[Mask], image: NDArray[np.uint8]) -> Mask:
    """Bring patch masks to the size of the resized image, (M, H'', W'')."""
    return np.stack([enlarge_patches(mask, image.shape[:2]) for mask in patch_masks])


def _refine(masks: Mask, image: NDArray[np.uint8], params: RefineParams) -> Mask:
    if params.method == 'permutohedral':
        return refine_masks(masks, image, params.crf)
    if params.method == 'pydensecrf':
        return refine_masks_pydensecrf(masks, image, params.crf)
    return masks
