"""Bipartition a graph by its second eigenvector (normalized cut)."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.linalg import LinAlgError, eigh, eigh_tridiagonal
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

from cuts3d_mm.arrays import Double, Mask

from .affinity import PackedLinks, linked_sums
from .params import NcutParams

ROUNDING = 1e-6  # single-precision noise of one product: a smaller norm or value is zero
_MIN_STEPS = 6  # an eigenvector concentrated on few patches shows only after some steps


@dataclass(frozen=True)
class Eigenpair:
    """Second smallest generalized eigenpair of (D - W, D)."""

    vector: Double  # (N,) of length 1, its sign as `NcutParams.sign` says
    value: float  # lambda2
    gap: float  # estimate of lambda3 - lambda2; near 0 the vector is not unique


@dataclass(frozen=True)
class Bipartition:
    """A two-way split of the patches after MaskCut's foreground rules."""

    foreground: Mask  # (N,)
    seed: int  # index of the strongest foreground patch
    eigenvector: Double  # (N,) larger means more foreground


def second_eigenvector(links: PackedLinks, is_free: Mask, params: NcutParams) -> Eigenpair | None:
    """Solve Normalized Cut on the linked patches.

    Args:
        links: the graph of N patches; with `params.claimed == 'removed'` of the free ones.
        is_free: (N,) False for patches that an instance has claimed; with 'epsilon' their links
            count as missing, they themselves stay in the graph (as zeroed features in MaskCut).

    Returns:
        The eigenpair, 0 at patches outside the graph, or None where no cut exists: all patches
        are alike.

    Raises:
        NoConvergence: no solver finds the eigenvector.
    """
    if params.claimed == 'epsilon':
        return _solve(links, is_free, params)
    pair = _solve(links, np.ones(len(links), bool), params)
    if pair is None or is_free.all():
        return pair
    vector = np.zeros(len(is_free))  # claimed patches are neither foreground nor background
    vector[is_free] = pair.vector
    return replace(pair, vector=vector)


def _solve(links: PackedLinks, is_free: Mask, params: NcutParams) -> Eigenpair | None:
    if len(links) < 2:
        return None
    operator = NormalizedAffinity(links, is_free, params.epsilon)
    if params.sign == 'lapack':
        return _solve_as_maskcut(operator)
    start = np.random.default_rng(params.start_seed).standard_normal(len(links))
    found = None
    for solver in (_lanczos, _arpack):
        with suppress(NoConvergence, ArpackNoConvergence):  # a slower solver takes more steps
            found = solver(operator, start, params)
            break
    vector, value, gap = found or _dense(operator)
    return to_eigenpair(vector * operator.inverse_root, value, gap)


def to_eigenpair(vector: Double, value: float, gap: float) -> Eigenpair | None:
    """Give an eigenvector of W its length and its sign; None where W has no other than the first.

    Args:
        vector: (N,) solution of the generalized problem, of any length.
        value: second largest eigenvalue of D^-1/2 W D^-1/2.
        gap: difference to the next value.
    """
    if value < ROUNDING:  # W is constant but for the first eigenvector
        return None
    if vector[np.argmax(np.abs(vector))] < 0:
        vector = -vector
    return Eigenpair(vector / np.linalg.norm(vector), 1 - value, gap)


def split_foreground(
    eigenvector: Double, grid_hw: tuple[int, int], is_cut: Mask | None = None
) -> Bipartition:
    """Choose the foreground side by MaskCut's rules.

    Patches above the mean are foreground. The sides are swapped where the foreground holds
    three or more of the four image corners, or else not the strongest patch.

    Args:
        eigenvector: (N,) with N = h * w.
        is_cut: (N,) patches of the graph that was cut, the others belong to neither side; None
            for all.
    """
    if is_cut is None:
        is_cut = np.ones(len(eigenvector), bool)
    foreground = (eigenvector > eigenvector[is_cut].mean()) & is_cut
    height, width = grid_hw
    corners = [0, width - 1, (height - 1) * width, height * width - 1]
    seed = int(np.argmax(np.abs(eigenvector)))
    if foreground[corners].sum() >= 3 or not foreground[seed]:
        foreground, eigenvector = ~foreground & is_cut, -eigenvector
    seed = int(np.argmax(np.where(is_cut, eigenvector, -np.inf)))
    return Bipartition(foreground, seed, eigenvector)


def _solve_as_maskcut(operator: NormalizedAffinity) -> Eigenpair | None:
    """Solve (D - W) x = lambda D x densely and leave the sign as LAPACK returns it."""
    affinity = operator.dense_affinity()
    degree = np.diag(affinity.sum(axis=1))
    values, vectors = _dense_eigenpairs(degree - affinity, degree, subset_by_index=[1, 2])
    if 1 - values[0] < ROUNDING:  # W is constant but for the first eigenvector
        return None
    vector = vectors[:, 0] / np.linalg.norm(vectors[:, 0])
    return Eigenpair(vector, float(values[0]), float(values[1] - values[0]))


class NoConvergence(ArithmeticError):
    """A solver has not found the second eigenvector."""


class NormalizedAffinity:
    """D^-1/2 W D^-1/2 as a matrix product, with its first eigenvector.

    Args:
        links: the graph of N patches, the 0/1 matrix B of W = epsilon + (1 - epsilon) B.
        is_free: (N,) False for patches whose links count as missing.
        epsilon: weight of a missing link.
    """

    def __init__(self, links: PackedLinks, is_free: Mask, epsilon: float) -> None:
        self._links = links
        self._to_free = links if is_free.all() else links.only_to(is_free)
        self._is_free = is_free
        self._epsilon = epsilon
        degree = self._affinity_times(np.ones(len(links)))
        self.inverse_root = 1 / np.sqrt(degree)
        root = np.sqrt(degree)
        self.first_eigenvector = root / np.linalg.norm(root)

    def __call__(self, vector: Double) -> Double:
        """Multiply by a vector, (N,)."""
        return self.inverse_root * self._affinity_times(self.inverse_root * vector)

    def dense_affinity(self) -> Double:
        """Return W, (N, N)."""
        is_linked = self._links.unpack() * np.outer(self._is_free, self._is_free)
        return np.where(is_linked, 1.0, self._epsilon)

    def _affinity_times(self, vector: Double) -> Double:
        sums = linked_sums(self._to_free, vector[self._is_free].astype(np.float32))
        product = np.where(self._is_free, sums, 0).astype(np.float64)
        return self._epsilon * vector.sum() + (1 - self._epsilon) * product


def _dense_eigenpairs(*matrices: Double, **options: Any) -> tuple[Double, Double]:
    """Solve a (generalized) symmetric eigenproblem by LAPACK, smallest value first.

    Raises:
        NoConvergence: LAPACK fails.
    """
    try:
        values, vectors = eigh(*matrices, **options)
    except LinAlgError as error:
        raise NoConvergence(
            'a solver must find the second eigenvector of the links between patches, none does: '
            f'{error}; the features of the image may be unusual'
        ) from error
    return values, vectors


def _lanczos(
    operator: NormalizedAffinity, start: Double, params: NcutParams
) -> tuple[Double, float, float]:
    """Largest eigenpair below the first one, and its gap; reorthogonalised in double precision.

    Raises:
        NoConvergence: not within `max_steps`.
    """
    steps = min(params.max_steps, len(start) - 1)
    # Row 0 is the known first eigenvector, so that reorthogonalising also deflates it.
    basis = np.empty((steps + 2, len(start)))
    basis[0] = operator.first_eigenvector
    vector = start - basis[0] * (basis[0] @ start)
    basis[1] = vector / np.linalg.norm(vector)
    diagonal, off_diagonal = np.empty(steps), np.empty(steps)
    for step in range(steps):
        product = operator(basis[step + 1])
        diagonal[step] = basis[step + 1] @ product
        product -= diagonal[step] * basis[step + 1]
        if step:
            product -= off_diagonal[step - 1] * basis[step]
        product -= (basis[: step + 2] @ product) @ basis[: step + 2]
        off_diagonal[step] = np.linalg.norm(product)
        found = ritz_pair(diagonal[: step + 1], off_diagonal[: step + 1], params)
        if found is not None:
            weights, value, gap = found
            return weights @ basis[1 : step + 2], value, gap
        basis[step + 2] = product / off_diagonal[step]
    raise NoConvergence(f'Lanczos did not converge in {steps} steps')


def ritz_pair(
    diagonal: Double, off_diagonal: Double, params: NcutParams
) -> tuple[Double, float, float] | None:
    """Take the eigenpair from some steps of Lanczos, if they are enough.

    Convergence is judged by the residual norm and, since a near tie needs a smaller one, by the
    residual over the gap to the next Ritz value.

    Args:
        diagonal: (k,) of the tridiagonal matrix.
        off_diagonal: (k,) next to the diagonal, the last one to the next step.

    Returns:
        Weights (k,) of the basis, value, and the gap to the next value; None: more steps are
        needed.
    """
    is_exhausted = off_diagonal[-1] < ROUNDING
    if len(diagonal) < _MIN_STEPS and not is_exhausted:
        return None
    values, vectors = eigh_tridiagonal(diagonal, off_diagonal[:-1])
    residual = off_diagonal[-1] * abs(vectors[-1, -1])
    gap = float(values[-1] - values[-2]) if len(values) > 1 else 0.0
    if not is_exhausted and residual > min(params.tolerance, 0.01 * gap):
        return None
    return vectors[:, -1], float(values[-1]), gap


def _arpack(
    operator: NormalizedAffinity, start: Double, params: NcutParams
) -> tuple[Double, float, float]:
    if len(start) < 4:
        raise NoConvergence('ARPACK needs more patches than the three eigenvectors')
    product = LinearOperator((len(start), len(start)), matvec=operator, dtype=np.float64)
    values, vectors = eigsh(product, 3, which='LA', v0=start, tol=params.tolerance)
    return vectors[:, -2], float(values[-2]), float(values[-2] - values[-3])


def _dense(operator: NormalizedAffinity) -> tuple[Double, float, float]:
    root = operator.inverse_root
    values, vectors = _dense_eigenpairs(root[:, None] * operator.dense_affinity() * root)
    gap = float(values[-2] - values[-3]) if len(values) > 2 else 0.0
    return vectors[:, -2], float(values[-2]), gap
