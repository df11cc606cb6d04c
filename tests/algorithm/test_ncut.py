from __future__ import annotations

import numpy as np
import pytest
from helpers import oracles
from helpers.drawn import GRID_HW, disc, features_of, pack_links
from scipy.linalg import LinAlgError
from scipy.sparse.linalg import ArpackNoConvergence

from cuts3d_mm.algorithm import ncut
from cuts3d_mm.algorithm.affinity import link_patches, normalize_features
from cuts3d_mm.algorithm.ncut import NoConvergence, second_eigenvector, split_foreground
from cuts3d_mm.algorithm.params import NcutParams


def dense_affinity(links, is_free):
    free = np.outer(is_free, is_free)
    return np.where((links > 0) & free, 1.0, oracles.EPSILON)


def never_converges(*_, **__):
    raise SolverFailure('no')


class SolverFailure(NoConvergence, ArpackNoConvergence, LinAlgError):
    """What each of the solvers raises."""

    def __init__(self, reason):
        Exception.__init__(self, reason)


def worlds(rng):
    labels = disc((6, 7), 4).astype(int) + 2 * disc((12, 19), 3)
    features = normalize_features(features_of(labels, rng).reshape(-1, 48))
    links = link_patches(features, 0.15).unpack()
    free = np.ones(len(links), bool)
    yield 'discs', links, free
    yield 'one disc claimed', links, ~disc((6, 7), 4).ravel()
    isolated = links.copy()
    isolated[[3, 50, 200]] = isolated[:, [3, 50, 200]] = 0
    isolated[[3, 50, 200], [3, 50, 200]] = 1
    yield 'isolated patches', isolated, free
    yield 'noise', link_patches(normalize_features(rng.normal(size=(468, 9))), 0.15).unpack(), free
    blocks = np.kron(np.eye(3, dtype=np.uint8), np.ones((156, 156), np.uint8))
    blocks[:20, :200] = blocks[:200, :20] = 1
    yield 'blocks', blocks, free


EPSILON = NcutParams(claimed='epsilon')
LAPACK = NcutParams(sign='lapack', claimed='epsilon')


def solve(links, free=None, params=NcutParams()):  # noqa: B008  frozen
    free = np.ones(len(links), bool) if free is None else free
    return second_eigenvector(pack_links(links), free, params)


@pytest.mark.parametrize('index', range(5))
def test_eigenvector_equals_the_dense_solver(rng, index):
    _, links, free = list(worlds(rng))[index]
    found = solve(links, free, EPSILON)
    exact = oracles.second_eigenvector(dense_affinity(links, free))
    cosine = found.vector @ exact / np.linalg.norm(exact)
    assert cosine == pytest.approx(1, abs=1e-5)


def test_eigenvalue_and_gap_equal_the_dense_solver(rng):
    _, links, free = next(worlds(rng))
    found = solve(links, free, EPSILON)
    root = 1 / np.sqrt(dense_affinity(links, free).sum(axis=1))
    values = np.linalg.eigvalsh(root[:, None] * dense_affinity(links, free) * root)[::-1]
    assert found.value == pytest.approx(1 - values[1], abs=1e-5)
    assert found.gap == pytest.approx(values[1] - values[2], rel=0.05)


def test_fallback_solvers_agree_with_lanczos(rng):
    _, links, free = next(worlds(rng))
    quick = solve(links, free, EPSILON)
    slow = solve(links, free, NcutParams(max_steps=2, claimed='epsilon'))
    assert abs(quick.vector @ slow.vector) == pytest.approx(1, abs=1e-5)


def test_claimed_patches_leave_the_graph_and_the_rest_is_cut_among_itself(rng):
    links = next(worlds(rng))[1]
    free = rng.random(len(links)) < 0.6
    found = second_eigenvector(pack_links(links).among(free), free, NcutParams())
    exact = solve(links[np.ix_(free, free)])
    assert found.value == exact.value
    assert np.corrcoef(found.vector[free], exact.vector)[0, 1] == pytest.approx(1)
    assert (found.vector[~free] == 0).all()


def test_claimed_corners_belong_to_neither_side():
    vector = np.where(np.arange(12 * 9).reshape(12, 9) % 9 < 4, 1.0, -0.8)
    free = np.ones((12, 9), bool)
    free[0, 0] = free[-1, 0] = free[0, -1] = False
    vector[~free] = 0
    split = split_foreground(vector.ravel(), (12, 9), free.ravel())
    assert (split.foreground.reshape(12, 9) == ((vector > 0) & free)).all()
    assert free.ravel()[split.seed]


def test_eigenvector_is_the_same_on_every_run(rng):
    _, links, free = next(worlds(rng))
    first, second = (solve(links, free, EPSILON) for _ in range(2))
    assert first.vector.tobytes() == second.vector.tobytes()


@pytest.mark.parametrize('links', [np.ones((30, 30), np.uint8), np.zeros((30, 30), np.uint8)])
def test_patches_that_are_all_alike_have_no_cut_by_any_solver(links, monkeypatch):
    assert solve(links) is None and solve(links, params=LAPACK) is None
    monkeypatch.setattr(ncut, '_lanczos', never_converges)
    assert solve(links) is None


@pytest.mark.parametrize('params', [NcutParams(), LAPACK])
def test_no_convergence_is_an_error_and_not_an_image_without_a_cut(rng, params, monkeypatch):
    _, links, free = next(worlds(rng))
    monkeypatch.setattr(ncut, '_lanczos', never_converges)
    monkeypatch.setattr(ncut, '_arpack', never_converges)
    monkeypatch.setattr(ncut, 'eigh', never_converges)
    with pytest.raises(NoConvergence, match='a solver must find the second eigenvector'):
        solve(links, free, params)


def test_the_sign_of_lapack_is_kept():
    """The eigenvector is that of the plain dense call, negative ones included."""
    signs = set()
    for seed in range(20):
        rng = np.random.default_rng(seed)
        features = normalize_features(
            features_of(disc((6, 7), 4).astype(int), rng).reshape(-1, 48)
        )
        links, free = link_patches(features, 0.15).unpack(), ~disc((15, 20), 2).ravel()
        found = solve(links, free, LAPACK)
        exact = oracles.second_eigenvector(dense_affinity(links, free), 'lapack')
        assert found.vector == pytest.approx(exact / np.linalg.norm(exact), abs=1e-9)
        signs.add(np.sign(exact[np.argmax(np.abs(exact))]))
    assert signs == {-1, 1}


def test_single_patch_has_no_cut():
    assert solve(np.ones((1, 1), np.uint8)) is None


def test_two_apart_patches_are_cut():
    pair = solve(np.eye(2, dtype=np.uint8))
    assert pair is not None and pair.vector[0] * pair.vector[1] < 0


def test_sides_are_swapped_where_foreground_holds_the_corners():
    vector = np.where(disc((9, 13), 4), -1.0, 1.5).ravel()
    split = split_foreground(vector, GRID_HW)
    assert (split.foreground == disc((9, 13), 4).ravel()).all()
    assert split.foreground[split.seed]


def test_sides_are_swapped_where_the_strongest_patch_is_background():
    vector = np.where(disc((9, 13), 4), -5.0, 0.1).ravel()
    split = split_foreground(vector, GRID_HW)
    assert (split.foreground == disc((9, 13), 4).ravel()).all()
