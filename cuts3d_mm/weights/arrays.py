"""Rebuild the NumPy arrays of a pickle from shape, kind and bytes, and check each of these.

NumPy's own constructors take whatever a pickle gives them and can end the process.
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cuts3d_mm.weights.pickles import Name, Rules, StandIn
from cuts3d_mm.weights.values import shown

_NUMBER = re.compile(r'b1|[iu][1248]|f[248]|c8|c16')
_MOST_DIMENSIONS = 16


class _Kind(StandIn):
    """Stands for a `numpy.dtype`: a kind of number and its byte order."""

    def __init__(self, code: Any, *_: Any) -> None:
        if not isinstance(code, str) or not _NUMBER.fullmatch(code):
            raise ValueError(f'it has an array of {shown(code)}, which is no kind of number')
        self.code = code
        self.order: Any = '='  # one of NumPy's signs

    def set_state(self, state: Any) -> None:
        _, order, *fields = state
        if order not in ('<', '>', '|', '=') or any(fields[:3]):
            raise ValueError('it has an array of a kind that is not a plain number')
        self.order = order

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.code).newbyteorder(self.order)

    def finish(self) -> str:
        return self.code


class _Array(StandIn):
    """Stands for a `numpy.ndarray` until its state is known."""

    def __init__(self, *_: Any) -> None:
        self.array: NDArray[Any] | None = None

    def set_state(self, state: Any) -> None:
        _, shape, kind, is_fortran, content = state
        self.array = _make_array(content, kind, shape, 'F' if is_fortran else 'C')

    def finish(self) -> NDArray[Any]:
        if self.array is None:
            raise ValueError('it has an array without content')
        return self.array


class LogHistory(StandIn):
    """Values of a log and how many steps each one sums up, as MMEngine keeps them.

    Attributes:
        values: (N,) numbers.
        counts: (N,) numbers.
        max_length: most values that are kept.
    """

    def __init__(self) -> None:
        self.values = self.counts = np.empty(0)
        self.max_length = 1_000_000

    def set_state(self, state: Any) -> None:
        """Take the arrays; the rest of the state are methods, which are not data."""
        self.values, self.counts = (
            state[key].finish() for key in ('_log_history', '_count_history')
        )
        self.max_length = state['max_length']
        is_list = self.values.ndim == 1 and self.values.shape == self.counts.shape
        if not is_list or type(self.max_length) is not int or self.max_length < 1:
            raise ValueError('it has a log whose values and counts do not agree')

    def finish(self) -> LogHistory:
        """Return itself: it is plain."""
        return self


def _make_array(content: Any, kind: Any, shape: Any, order: Any) -> NDArray[Any]:
    """Make an array of its own memory, in this machine's byte order."""
    if isinstance(content, str):  # of Python 2, or of its protocol
        content = content.encode('latin1')
    is_known = isinstance(kind, _Kind) and isinstance(content, bytes) and order in ('C', 'F')
    if not is_known or not isinstance(shape, tuple) or len(shape) > _MOST_DIMENSIONS:
        raise ValueError('it has an array that is not made of numbers')
    if any(type(side) is not int or not 0 <= side < 1 << 40 for side in shape):
        raise ValueError('it has an array of no shape')
    if math.prod(shape) * kind.dtype.itemsize != len(content):
        raise ValueError(f'it has an array of the shape {shape} and {len(content):,} bytes')
    array = np.frombuffer(content, kind.dtype).reshape(shape, order=order)
    return array.astype(kind.dtype.newbyteorder('='), order='C')


def _make_number(kind: Any, content: Any) -> Any:
    return _make_array(content, kind, (), 'C').item()


def _make_array_of_buffer(content: Any, kind: Any, shape: Any, order: Any) -> NDArray[Any]:
    return _make_array(content, kind, shape, order)


def _encode(text: Any, encoding: Any) -> bytes:
    """Bytes, as old protocols write them."""
    if not isinstance(text, str) or encoding not in ('latin1', 'latin-1'):
        raise ValueError(f'it encodes text as {shown(encoding)}')
    return text.encode('latin1')


def _look_up_method(owner: Any, _: Any) -> None:
    """Methods of a log come with it; they are left out."""
    if not isinstance(owner, Name) or owner.rule is not LogHistory:
        raise ValueError('it looks up an attribute')


ARRAY_RULES: Rules = {
    ('numpy', 'ndarray'): _Array,
    ('numpy', 'dtype'): _Kind,
    ('_codecs', 'encode'): _encode,
    ('mmengine.logging.history_buffer', 'HistoryBuffer'): LogHistory,
    **{(builtins, 'getattr'): _look_up_method for builtins in ('builtins', '__builtin__')},
    **{
        (f'numpy.{core}.{module}', name): rule
        for core in ('core', '_core')
        for module, name, rule in (
            ('multiarray', '_reconstruct', _Array),
            ('multiarray', 'scalar', _make_number),
            ('numeric', '_frombuffer', _make_array_of_buffer),
        )
    },
}
