"""Plain values: what is left when a file has been read as data."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cuts3d_mm.weights.arrays import LogHistory
from cuts3d_mm.weights.pickles import Name, Rules, StandIn
from cuts3d_mm.weights.values import fill, require_key, shown

_DEEPEST = 40  # containers in containers; an optimizer has 5
_MOST_VALUES = 20_000_000  # counted as often as they can be reached
_LEAVES = (type(None), bool, int, float, complex, str, bytes, Tensor, np.ndarray, torch.dtype)


class _Fields(StandIn):
    """Stands for an object that is no more than its attributes, such as `argparse.Namespace`."""

    def __init__(self, *_: Any) -> None:
        self.fields: Any = {}

    def set_state(self, state: Any) -> None:
        self.fields = state

    def finish(self) -> Any:
        return self.fields


def to_plain(value: Any) -> Any:
    """Turn what a pickle gave into containers, numbers, text, arrays and tensors.

    Raises:
        ValueError: it holds itself, something else, or more than fits into memory.
    """
    return _Copier().copy(value, 0)[0]


class _Copier:
    def __init__(self) -> None:
        self._done: dict[int, tuple[Any, int] | None] = {}  # by id; None while it is copied

    def copy(self, value: Any, depth: int) -> tuple[Any, int]:
        """Copy a value: the plain one, and how many values can be reached from it."""
        if isinstance(value, _LEAVES):
            return value, 1
        if id(value) not in self._done:
            self._done[id(value)] = None
            self._done[id(value)] = self._copy_container(value, depth)
        found = self._done[id(value)]
        if found is None or depth > _DEEPEST or found[1] > _MOST_VALUES:
            raise ValueError('it has containers in one another without an end')
        return found

    def _copy_container(self, value: Any, depth: int) -> tuple[Any, int]:
        if depth > _DEEPEST:
            raise ValueError(f'it has containers in one another, more than {_DEEPEST} deep')
        if isinstance(value, LogHistory):
            return value, 1
        if isinstance(value, StandIn):
            return self.copy(value.finish(), depth + 1)
        if isinstance(value, Name) and isinstance(value.rule, torch.dtype):
            return value.rule, 1
        if isinstance(value, dict):
            return self._copy_dict(value, depth)
        if isinstance(value, (list, tuple, set, frozenset)):
            copies = [self.copy(item, depth + 1) for item in value]
            total = 1 + sum(number for _, number in copies)
            return type(value)(item for item, _ in copies), total
        raise ValueError(f'it holds a {type(value).__name__} where data should be')

    def _copy_dict(self, value: dict[Any, Any], depth: int) -> tuple[Any, int]:
        copies = {key: self.copy(item, depth + 1) for key, item in value.items()}
        plain = type(value)((key, item) for key, (item, _) in copies.items())
        if isinstance(plain, OrderedDict) and hasattr(value, '_metadata'):
            metadata, _ = self.copy(value._metadata, depth + 1)
            plain._metadata = metadata  # type: ignore[attr-defined]
        return plain, 1 + sum(number for _, number in copies.values())


def _ordered(items: Any = ()) -> OrderedDict[Any, Any]:
    ordered: OrderedDict[Any, Any] = OrderedDict()
    fill(ordered, items.items() if isinstance(items, dict) else items)
    return ordered


def _mapping(items: Any = ()) -> dict[Any, Any]:
    return fill({}, items.items() if isinstance(items, dict) else items)


def _set(items: Any = ()) -> set[Any]:
    return {require_key(item) for item in items}


def _complex(real: Any, imaginary: Any) -> complex:
    if type(real) is not float or type(imaginary) is not float:
        raise ValueError('it has a complex number without parts')
    return complex(real, imaginary)


def _path(*parts: Any) -> str:
    return str(PurePosixPath(*parts))


def _text(text: Any = '') -> str:
    if not isinstance(text, str):
        raise ValueError(f'it makes text of {shown(text)}')
    return text


def _no_bytes() -> bytes:
    """Empty bytes, as old protocols write them."""
    return b''


def _empty_mapping(*_: Any) -> dict[Any, Any]:
    """A `defaultdict`, whose default is a function and no data."""
    return {}


def _reconstruct(kind: Any, *_: Any) -> Any:
    """Make an object as old protocols do."""
    if not isinstance(kind, Name) or kind.rule not in (LogHistory, _Fields):
        raise ValueError('it makes an object of an unknown kind')
    return kind.rule()


_BUILTINS = {
    'set': _set,
    'frozenset': _set,
    'dict': _mapping,
    'complex': _complex,
    'bytes': _no_bytes,
}
_PATHS = ('PosixPath', 'WindowsPath', 'PurePosixPath', 'PureWindowsPath')
PLAIN_RULES: Rules = {
    ('collections', 'OrderedDict'): _ordered,
    ('collections', 'Counter'): _mapping,
    ('collections', 'defaultdict'): _empty_mapping,
    ('argparse', 'Namespace'): _Fields,
    ('types', 'SimpleNamespace'): _Fields,
    ('copyreg', '_reconstructor'): _reconstruct,
    ('copy_reg', '_reconstructor'): _reconstruct,
    ('mmengine.config.config', 'ConfigDict'): _mapping,
    ('torch.torch_version', 'TorchVersion'): _text,
    **{
        (module, name): rule
        for module in ('builtins', '__builtin__')
        for name, rule in _BUILTINS.items()
    },
    **{(module, name): _path for module in ('pathlib', 'pathlib._local') for name in _PATHS},
}
