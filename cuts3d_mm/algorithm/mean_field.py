"""Infer masks with a mean field of Gaussian potentials."""

from __future__ import annotations

import numpy as np

from cuts3d_mm.algorithm.kernels.kernel import Kernel
from cuts3d_mm.algorithm.permutohedral import Lattice, Nodes
from cuts3d_mm.arrays import Float, Mask

LANES = 4  # values filtered together: one vector register of float32

_Arrays = tuple[Nodes, Float, Nodes]  # of a lattice


def filter_values(lattice: Lattice, values: Float) -> Float:
    """Apply the Gaussian of a lattice to (P, 4) values at its points.

    The result is not normalised: a constant 1 comes back in proportion to the local density.
    """
    flat = np.ascontiguousarray(values, np.float32).ravel()
    return _filter(*_arrays(lattice), flat).reshape(values.shape)


def normalize_weights(lattice: Lattice, strength: float) -> Lattice:
    """Scale the weights of a lattice for use in `infer_masks`.

    A filter with them is the Gaussian, divided by the root of the local density before and after,
    times the strength.
    """
    ones = np.ones((len(lattice.vertices), LANES), np.float32)
    density = filter_values(lattice, ones)[:, :1]
    factors = np.sqrt(np.float32(strength) / (density + np.float32(1e-20)))
    return Lattice(lattice.vertices, lattice.weights * factors, lattice.neighbors)


def infer_masks(
    masks: Mask, logit: float, num_iterations: int, spatial: Lattice, bilateral: Lattice
) -> Mask:
    """Infer (M, P) masks from rough ones by mean field iterations.

    With two labels the field is one number per point, the log odds z, and the message is a filter
    of q1 - q0 = tanh(z / 2).

    Args:
        masks: (M, P).
        logit: log odds of a point to be on a mask that holds it.
        num_iterations: of the mean field.
        spatial: normalised lattice in 2 dimensions.
        bilateral: normalised lattice in 5 dimensions.
    """
    lattices = _arrays(spatial), _arrays(bilateral)
    inferred = [
        _infer(masks[start : start + LANES], np.float32(logit), num_iterations, *lattices)
        for start in range(0, len(masks), LANES)
    ]
    return np.concatenate(inferred)


def _arrays(lattice: Lattice) -> _Arrays:
    return lattice.vertices, lattice.weights, lattice.neighbors


def _filter_plain(vertices: Nodes, weights: Float, neighbors: Nodes, values: Float) -> Float:
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
    masks: Mask, logit: np.float32, num_iterations: int, spatial: _Arrays, bilateral: _Arrays
) -> Mask:
    unary = np.where(masks.T, logit, -logit)
    logits = unary
    for _ in range(num_iterations):
        field = np.tanh(logits * np.float32(0.5))
        logits = unary.copy()
        for lattice in (spatial, bilateral):
            logits += _filter_plain(*lattice, field.ravel()).reshape(field.shape)
    return logits.T > 0


_filter = Kernel('lattice.filter_values', _filter_plain)
_infer = Kernel('lattice.infer_masks', _infer_plain)
