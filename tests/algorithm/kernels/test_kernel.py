from __future__ import annotations

import logging
import sys

import numpy as np
import pytest
from numba import njit

from cuts3d_mm.algorithm.kernels import kernel
from cuts3d_mm.algorithm.kernels.kernel import Kernel


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
