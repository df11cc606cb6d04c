from __future__ import annotations

import logging
import pickle
import subprocess
import sys

import numpy as np
import pytest
from helpers.commands import environment_without
from helpers.drawn import cut_on_grid, touching_world
from numba import njit

from cuts3d_mm.algorithm.kernels import kernel
from cuts3d_mm.algorithm.kernels.kernel import Kernel
from cuts3d_mm.algorithm.params import CutParams


def plain_sum(values):
    return 'plain', float(np.sum(values))


@njit
def compiled_sum(values):
    return 'compiled', values.sum()


@njit
def not_typed(values):
    return values.no_such_attribute


def refuses(values):
    raise RuntimeError('cannot cache function: no locator available')


def fails(values):
    raise ZeroDivisionError


@pytest.fixture
def kernel_of(monkeypatch):
    def make(function):
        module = type(sys)('sums')
        module.add = function
        monkeypatch.setitem(sys.modules, f'{kernel.__package__}.sums', module)
        return Kernel('sums.add', plain_sum)

    return make


def test_the_compiled_function_is_called(kernel_of):
    assert kernel_of(compiled_sum)(np.ones(3)) == ('compiled', 3)


@pytest.mark.parametrize('function', [not_typed, refuses])
def test_plain_code_runs_and_one_warning_says_why_if_it_cannot_be_compiled(
    kernel_of, function, caplog
):
    add = kernel_of(function)
    with caplog.at_level(logging.WARNING):
        assert [add(np.ones(3)), add(np.ones(4))] == [('plain', 3), ('plain', 4)]
    (record,) = caplog.records
    assert 'sums.add runs as plain code' in record.message


def test_plain_code_runs_where_the_file_cannot_be_imported(monkeypatch):
    monkeypatch.setitem(sys.modules, f'{kernel.__package__}.sums', None)
    assert Kernel('sums.add', plain_sum)(np.ones(3)) == ('plain', 3)


def test_plain_code_takes_over_at_a_type_that_cannot_be_compiled(kernel_of):
    add = kernel_of(compiled_sum)
    assert add(np.ones(3)) == ('compiled', 3)
    assert add((1.0, 2.0)) == ('plain', 3)


def test_other_errors_are_raised(kernel_of):
    with pytest.raises(ZeroDivisionError):
        kernel_of(fails)(np.ones(3))


_CODE = """
import pickle, sys
from cuts3d_mm.algorithm.cut_instances import cut_patches, link_image
from cuts3d_mm.algorithm.params import CutParams
features, depth = pickle.load(sys.stdin.buffer)
cuts = cut_patches(link_image(features, depth, CutParams()), CutParams()).instances
assert 'numba' not in sys.modules
pickle.dump([(cut.mask, cut.confidence, cut.eigenvector) for cut in cuts], sys.stdout.buffer)
"""


def test_the_patch_stage_runs_without_numba_and_finds_the_same(rng, tmp_path):
    features, depth, *_ = touching_world(rng)
    run = subprocess.run(
        [sys.executable, '-c', _CODE],
        input=pickle.dumps((features, depth)),
        capture_output=True,
        env=environment_without(tmp_path, 'numba', 'llvmlite'),
        check=True,
    )
    assert b'runs as plain code' in run.stderr
    cuts = cut_on_grid(features, depth, CutParams()).instances
    assert len(cuts) == 2
    for cut, found in zip(cuts, pickle.loads(run.stdout), strict=True):
        expected = (cut.mask, cut.confidence, cut.eigenvector)
        assert all(np.array_equal(a, b) for a, b in zip(expected, found, strict=True))
