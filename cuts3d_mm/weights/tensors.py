"""Rebuild the PyTorch tensors of a pickle as views into storages whose bounds are checked."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cuts3d_mm.weights.pickles import Name, Rules
from cuts3d_mm.weights.values import shown

_MOST_DIMENSIONS = 16
# Bytes of all tensors over bytes of all storages; tied weights are one storage for two tensors.
_MOST_SHARING = 8
_DTYPES = {
    name: getattr(torch, name)
    for name in (
        *('bool', 'uint8', 'int8', 'int16', 'int32', 'int64', 'float16', 'bfloat16', 'float32'),
        *('float64', 'complex64', 'complex128', 'uint16', 'uint32', 'uint64'),
        *('float8_e4m3fn', 'float8_e5m2'),
    )
    if hasattr(torch, name)  # the last ones are new
}
_STORAGES = {
    'BoolStorage': 'bool',
    'ByteStorage': 'uint8',
    'CharStorage': 'int8',
    'ShortStorage': 'int16',
    'IntStorage': 'int32',
    'LongStorage': 'int64',
    'HalfStorage': 'float16',
    'BFloat16Storage': 'bfloat16',
    'FloatStorage': 'float32',
    'DoubleStorage': 'float64',
    'ComplexFloatStorage': 'complex64',
    'ComplexDoubleStorage': 'complex128',
}


@dataclass(frozen=True)
class StorageKind:
    """What a storage holds."""

    dtype: torch.dtype

    @property
    def item_bytes(self) -> int:
        """Bytes of an element."""
        return torch.empty(0, dtype=self.dtype).element_size()


@dataclass
class Storage:
    """The memory of tensors.

    Args:
        content: (N,) of its kind.
    """

    content: Tensor


class TensorBuilder:
    """Rules that make the tensors of one file.

    Args:
        load: gives the storage with a key, of a kind and a number of elements.
    """

    def __init__(self, load: Callable[[str, StorageKind, int], Storage]) -> None:
        self._load = load
        self._storages: dict[str, Storage] = {}
        self._bytes_stored = self._bytes_viewed = 0

    def rules(self) -> Rules:
        """Give the rules of the names that tensors need."""
        return {
            ('torch._utils', '_rebuild_tensor'): self._rebuild,
            ('torch._utils', '_rebuild_tensor_v2'): self._rebuild_v2,
            ('torch._utils', '_rebuild_tensor_v3'): self._rebuild_v3,
            ('torch._utils', '_rebuild_parameter'): _rebuild_parameter,
            ('torch', 'Size'): _sizes,
            ('torch', 'device'): _device,
            ('torch.storage', 'UntypedStorage'): StorageKind(torch.uint8),
            **{('torch', name): dtype for name, dtype in _DTYPES.items()},
            **{('torch', name): StorageKind(_DTYPES[of]) for name, of in _STORAGES.items()},
        }

    def load_persistent(self, identifier: Any) -> Storage:
        """Give the storage that a pickle refers to.

        Raises:
            ValueError: it is no reference to a storage, or one that contradicts another.
        """
        tag, kind, key, _, count, *view = identifier
        is_kind = isinstance(kind, Name) and isinstance(kind.rule, StorageKind)
        if tag not in ('storage', b'storage') or not is_kind or any(view):
            raise ValueError('it refers to what is no storage of PyTorch')
        if not isinstance(key, str) or type(count) is not int or not 0 <= count < 1 << 60:
            raise ValueError(f'it has a storage of {shown(count)} elements')
        if key not in self._storages:
            self._storages[key] = self._load(key, kind.rule, count)
            self._bytes_stored += self._storages[key].content.numel() * kind.rule.item_bytes
        storage = self._storages[key]
        if storage.content.dtype != kind.rule.dtype or storage.content.numel() != count:
            raise ValueError(f'it describes the storage {key[:20]!r} in two ways')
        return storage

    def _rebuild_v2(self, *parts: Any) -> Tensor:
        # What follows, whether it requires a gradient and its hooks, is no data.
        return self._rebuild(*parts[:4])

    def _rebuild_v3(self, storage: Any, *parts: Any) -> Tensor:
        dtype = parts[5]
        if not isinstance(dtype, Name) or not isinstance(dtype.rule, torch.dtype):
            raise ValueError('it has a tensor of no known kind')
        if not isinstance(storage, Storage):
            raise ValueError('it has a tensor without a storage')
        return self._rebuild(Storage(storage.content.view(dtype.rule)), *parts[:3])

    def _rebuild(self, storage: Any, offset: Any, size: Any, stride: Any) -> Tensor:
        if not isinstance(storage, Storage):
            raise ValueError('it has a tensor without a storage')
        count = storage.content.numel()
        size, stride = _sizes(size), _sizes(stride)
        _check_view(count, offset, size, stride)
        num_elements: int = math.prod(size)
        self._bytes_viewed += num_elements * storage.content.element_size()
        if self._bytes_viewed > _MOST_SHARING * self._bytes_stored:
            raise ValueError(f'its tensors are more than {_MOST_SHARING} times what it stores')
        return storage.content.as_strided(size, stride, offset)


def _check_view(count: int, offset: Any, size: tuple[int, ...], stride: tuple[int, ...]) -> None:
    """Require that a view lies in its storage and has no more elements than it."""
    is_inside = type(offset) is int and 0 <= offset <= count and len(size) == len(stride)
    num_elements: int = math.prod(size)
    if is_inside and num_elements:
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        is_inside = last < count and num_elements <= count
    if not is_inside:
        raise ValueError(
            f'it has a tensor of size {size}, stride {stride} and offset {shown(offset)} in a '
            f'storage of {count:,} elements'
        )


def _sizes(values: Any) -> tuple[int, ...]:
    is_tuple = isinstance(values, (tuple, list)) and len(values) <= _MOST_DIMENSIONS
    if not is_tuple or any(type(n) is not int or not 0 <= n < 1 << 40 for n in values):
        raise ValueError('it has a tensor whose size or stride is no row of numbers')
    return tuple(values)


def _device(kind: Any, *_: Any) -> str:
    return kind if isinstance(kind, str) else 'cpu'


def _rebuild_parameter(tensor: Any, *_: Any) -> Tensor:
    if not isinstance(tensor, Tensor):
        raise ValueError('it has a parameter that is no tensor')
    return tensor
