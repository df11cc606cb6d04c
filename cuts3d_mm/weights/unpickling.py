"""Read pickled weights as data: no code in a pickle runs."""

from __future__ import annotations

import math
import pickletools
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Rules = dict[tuple[str, str], Any]
MOST_OPCODES = 5_000_000  # a training checkpoint of a large detector has 100,000
_CONSTANTS = {
    *('INT', 'BININT', 'BININT1', 'BININT2', 'LONG', 'LONG1', 'LONG4', 'FLOAT', 'BINFLOAT'),
    *('STRING', 'BINSTRING', 'SHORT_BINSTRING', 'BINBYTES', 'SHORT_BINBYTES', 'BINBYTES8'),
    *('UNICODE', 'SHORT_BINUNICODE', 'BINUNICODE', 'BINUNICODE8', 'NONE'),
}
_EMPTY = {'EMPTY_LIST': list, 'EMPTY_TUPLE': tuple, 'EMPTY_DICT': dict, 'EMPTY_SET': set}
_NUMBER = re.compile(r'b1|[iu][1248]|f[248]|c8|c16')
_MOST_DIMENSIONS = 16
_DEEPEST = 40  # containers in containers; an optimizer has 5
_LONGEST_KEY = 16  # parts of a tuple, whose hash is computed at every use
_MOST_VALUES = 20_000_000  # a value that can be reached twice counts twice
# Bytes of all tensors over bytes of all storages; two tied weights share one storage.
_MOST_SHARING = 8
_DTYPES = {
    name: getattr(torch, name)
    for name in (
        *('bool', 'uint8', 'int8', 'int16', 'int32', 'int64', 'float16', 'bfloat16', 'float32'),
        *('float64', 'complex64', 'complex128', 'uint16', 'uint32', 'uint64'),
        *('float8_e4m3fn', 'float8_e5m2'),
    )
    if hasattr(torch, name)  # an older PyTorch lacks the last of them
}
_STORAGES = (  # beginning of the name of a storage, and its kind of number
    *(('Bool', 'bool'), ('Byte', 'uint8'), ('Char', 'int8'), ('Short', 'int16')),
    *(('Int', 'int32'), ('Long', 'int64'), ('Half', 'float16'), ('BFloat16', 'bfloat16')),
    *(('Float', 'float32'), ('Double', 'float64')),
    *(('ComplexFloat', 'complex64'), ('ComplexDouble', 'complex128')),
)


@dataclass(frozen=True)
class Name:
    """A name in a pickle, such as `collections.OrderedDict`, and our rule for it."""

    rule: Any  # our function, or the value that the name stands for


class StandIn:
    """Stands for an object until the pickle has given its state."""

    state: Any = None

    def __init__(self, *_: Any) -> None:
        """Leave out the arguments, which the state repeats."""

    def finish(self) -> Any:
        """Return the plain value."""
        raise NotImplementedError


def read_pickle(file: BinaryIO, tensors: TensorBuilder) -> Any:
    """Read one pickle; the file then stands after its last byte.

    Args:
        file: file that stands at the first byte of the pickle.
        tensors: builder of the tensors of the file.

    Returns:
        Builtin containers, arrays, tensors and stand-ins; `to_plain` makes data of them.

    Raises:
        ValueError, TypeError, LookupError, AssertionError: the file is no pickle, or the pickle
            does more than list data.
    """
    machine = _Machine(tensors)
    for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        if count >= MOST_OPCODES:
            raise ValueError(f'it has more than {MOST_OPCODES:,} steps')
        if opcode.name in _CONSTANTS:
            machine.stack.append(argument)
        else:
            machine.step(opcode.name, argument)
    return machine.stack[-1]


class _Machine:
    def __init__(self, tensors: TensorBuilder) -> None:
        self.stack: list[Any] = []
        self.outer: list[list[Any]] = []  # stacks below the marks
        self.memo: dict[int, Any] = {}
        self.rules, self.tensors = _RULES | tensors.rules(), tensors
        self.num_copied = 0  # items of containers that calls have copied

    def step(self, opcode: str, argument: Any) -> None:
        match opcode:
            case 'PROTO' | 'FRAME' | 'STOP':
                pass
            case 'GET' | 'BINGET' | 'LONG_BINGET':
                self.push(self.memo[argument])
            case 'PUT' | 'BINPUT' | 'LONG_BINPUT':
                self.memo[argument] = self.stack[-1]
            case 'MEMOIZE':
                self.memo[len(self.memo)] = self.stack[-1]
            case 'MARK':
                self.outer.append(self.stack)
                self.stack = []
            case 'POP' if self.stack:
                self.stack.pop()
            case 'POP' | 'POP_MARK':
                self.pop_mark()
            case 'DUP':
                self.push(self.stack[-1])
            case 'NEWTRUE' | 'NEWFALSE':
                self.push(opcode == 'NEWTRUE')
            case 'BYTEARRAY8':
                self.push(bytes(argument))
            case 'EMPTY_LIST' | 'EMPTY_TUPLE' | 'EMPTY_DICT' | 'EMPTY_SET':
                self.push(_EMPTY[opcode]())
            case 'LIST':
                self.push(self.pop_mark())
            case 'TUPLE':
                self.push(tuple(self.pop_mark()))
            case 'TUPLE1' | 'TUPLE2' | 'TUPLE3':
                self.push(tuple(self.pop(int(opcode[-1]))))
            case 'FROZENSET':
                self.push(frozenset(map(_require_key, self.pop_mark())))
            case 'DICT':
                self.push({})
                self.add(dict, self.pop_mark())
            case 'APPEND' | 'APPENDS':
                self.add(list, self.pop(1) if opcode == 'APPEND' else self.pop_mark())
            case 'SETITEM' | 'SETITEMS':
                self.add(dict, self.pop(2) if opcode == 'SETITEM' else self.pop_mark())
            case 'ADDITEMS':
                self.add(set, self.pop_mark())
            case 'GLOBAL':
                self.name(*argument.split(' ', 1))
            case 'STACK_GLOBAL':
                self.name(*self.pop(2))
            case 'REDUCE' | 'NEWOBJ':
                self.call(*self.pop(2))
            case 'BUILD':
                self.build(self.stack.pop())
            case 'BINPERSID':
                self.push(self.tensors.load_storage(self.stack.pop()))
            case _:
                raise ValueError(f'it uses {opcode}, which weights do not need')

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.outer.pop()
        return items

    def pop(self, count: int) -> list[Any]:
        return [self.stack.pop() for _ in range(count)][::-1]

    def add(self, kind: type, items: list[Any]) -> None:
        """Add items to the container on top of the stack."""
        target = self.stack[-1]
        if not isinstance(target, kind):
            raise ValueError(f'it adds items of a {kind.__name__} to a {type(target).__name__}')
        if isinstance(target, list):
            target.extend(items)
        elif isinstance(target, set):
            target.update(map(_require_key, items))
        elif isinstance(target, dict):
            _fill(target, zip(items[::2], items[1::2], strict=True))

    def name(self, module: Any, name: Any) -> None:
        is_text = isinstance(module, str) and isinstance(name, str)
        rule = self.rules.get((module, name)) if is_text else None
        if rule is None:
            full = f'{module}.{name}' if is_text else 'something without a name'
            raise ValueError(
                f'it names {full:.80}, which could run code and which weights do not need; '
                'convert it to .safetensors where you trust it'
            )
        self.stack.append(Name(rule))

    def call(self, function: Any, arguments: Any) -> None:
        is_known = isinstance(function, Name) and callable(function.rule)
        if not is_known or not isinstance(arguments, tuple):
            raise ValueError('it calls something that is no function')
        for part in arguments:  # which it copies; an argument can be the same in many calls
            if isinstance(part, (str, bytes)):
                self.tensors.count_bytes(len(part))
            elif isinstance(part, (list, tuple, set, frozenset, dict)):
                self.num_copied += len(part)
        if self.num_copied > MOST_OPCODES:
            raise ValueError(f'it copies more than {MOST_OPCODES:,} items')
        self.stack.append(function.rule(*arguments))

    def build(self, state: Any) -> None:
        target = self.stack[-1]
        if isinstance(target, StandIn):
            target.state = state
        elif isinstance(target, OrderedDict) and isinstance(state, dict):
            # PyTorch keeps versions of modules next to the weights.
            target._metadata = state.get('_metadata')  # type: ignore[attr-defined]
        else:
            raise ValueError(f'it gives a state to a {type(target).__name__}')


def _require_key(key: Any) -> Any:
    """Check that the hash of a key is cheap and cannot be chosen to collide."""
    parts = key if isinstance(key, tuple) else (key,)
    if len(parts) > _LONGEST_KEY:
        raise ValueError(f'it has a key of {len(parts):,} parts')
    for part in parts:
        is_small = isinstance(part, int) and abs(part) < 1 << 60
        if not is_small and not isinstance(part, (str, bytes, type(None))):
            raise ValueError(f'it has a {type(part).__name__} as a key')
    return key


def _fill(target: dict[Any, Any], items: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    for key, value in items:
        target[_require_key(key)] = value
    return target


class _Kind(StandIn):
    """Stands for a `numpy.dtype`: a kind of number and its byte order."""

    state: Any = (3, '=')  # version, NumPy's sign for the byte order

    def __init__(self, code: Any, *_: Any) -> None:
        if not isinstance(code, str) or not _NUMBER.fullmatch(code):
            raise ValueError(f'it has an array of {_shown(code)}, which is no kind of number')
        self.code = code

    def dtype(self) -> np.dtype[Any]:
        _, order, *fields = self.state
        if order not in ('<', '>', '|', '=') or any(fields[:3]):
            raise ValueError('it has an array of a kind that is not a plain number')
        return np.dtype(self.code).newbyteorder(order)

    def finish(self) -> str:
        return self.code


class _Array(StandIn):
    """Stands for a `numpy.ndarray`."""

    def __init__(self, make: Callable[..., NDArray[Any]], *_: Any) -> None:
        self._make = make
        self._made: NDArray[Any] | None = None

    def finish(self) -> NDArray[Any]:
        if self._made is None:  # once, however often it is referred to
            _, shape, kind, is_fortran, content = self.state
            self._made = self._make(content, kind, shape, 'F' if is_fortran else 'C')
        return self._made


class _Fields(StandIn):
    """Stands for an object that has only attributes, such as `argparse.Namespace`."""

    def finish(self) -> Any:
        return self.state or {}


@dataclass(frozen=True)
class LogHistory:
    """Values of a log with the number of steps that each value sums up, as in MMEngine."""

    values: NDArray[Any]  # (N,)
    counts: NDArray[Any]  # (N,) numbers of steps
    max_length: int  # largest number of values that are kept


class _History(StandIn):
    """Stands for MMEngine's `HistoryBuffer`; its state also names methods, which are no data."""

    def finish(self) -> LogHistory:
        values, counts = (self.state[key].finish() for key in ('_log_history', '_count_history'))
        length = self.state['max_length']
        is_list = values.ndim == 1 and values.shape == counts.shape
        if not is_list or type(length) is not int or length < 1:
            raise ValueError('it has a log whose values and counts do not agree')
        return LogHistory(values, counts, length)


def _encode(text: Any, encoding: Any) -> bytes:
    """Make bytes of a text, as old protocols store them."""
    if not isinstance(text, str) or encoding not in ('latin1', 'latin-1'):
        raise ValueError(f'it encodes text as {_shown(encoding)}')
    return text.encode('latin1')


def _look_up_method(owner: Any, _: Any) -> None:
    """Leave out the methods of a log, which its pickle names."""
    if not isinstance(owner, Name) or owner.rule is not _History:
        raise ValueError('it looks up an attribute')


def to_plain(value: Any) -> Any:
    """Turn the result of `read_pickle` into containers, numbers, text, arrays and tensors.

    Raises:
        ValueError: a container holds itself, something is no data, or there are too many values.
    """
    return _Copier().copy(value, 0)[0]


_LEAVES = (
    *(type(None), bool, int, float, complex, str, bytes),
    *(Tensor, np.ndarray, torch.dtype, LogHistory),
)


class _Copier:
    def __init__(self) -> None:
        self._done: dict[int, tuple[Any, int] | None] = {}  # by id; None while it is copied

    def copy(self, value: Any, depth: int) -> tuple[Any, int]:
        """Copy a value; also count the values that can be reached from it."""
        if isinstance(value, _LEAVES):
            return value, 1
        if depth > _DEEPEST:
            raise ValueError(f'it has containers in one another, more than {_DEEPEST} deep')
        if id(value) not in self._done:
            self._done[id(value)] = None
            self._done[id(value)] = self._copy_container(value, depth + 1)
        found = self._done[id(value)]
        if found is None or found[1] > _MOST_VALUES:
            raise ValueError('it has containers in one another without end')
        return found

    def _copy_container(self, value: Any, depth: int) -> tuple[Any, int]:
        made: Any
        if isinstance(value, StandIn):
            return self.copy(value.finish(), depth)
        if isinstance(value, Name) and isinstance(value.rule, torch.dtype):
            return value.rule, 1
        if not isinstance(value, (dict, list, tuple, set, frozenset)):
            raise ValueError(f'it holds a {type(value).__name__} where data should be')
        items = value.values() if isinstance(value, dict) else value
        copies = [self.copy(item, depth) for item in items]
        made = [copy for copy, _ in copies]
        if isinstance(value, dict):
            made = zip(value, made, strict=True)
        made = type(value)(made)
        if hasattr(value, '_metadata'):
            made._metadata, _ = self.copy(value._metadata, depth)
        return made, 1 + sum(number for _, number in copies)


def _mapping(items: Any = ()) -> dict[Any, Any]:
    return _fill(OrderedDict(), items.items() if isinstance(items, dict) else items)


def _set(items: Any = ()) -> set[Any]:
    return set(map(_require_key, items))


def _path(*parts: Any) -> str:
    return str(PurePosixPath(*parts))


def _first(value: Any = '', *_: Any) -> Any:
    """Stand for what the first argument describes, such as the version of PyTorch."""
    return value


def _reconstruct(kind: Any, *_: Any) -> Any:
    """Make an empty object, which old protocols store as a call."""
    if not isinstance(kind, Name) or kind.rule not in (_History, _Fields):
        raise ValueError('it makes an object of an unknown kind')
    return kind.rule()


_RULES: Rules = {
    ('collections', 'OrderedDict'): _mapping,
    ('collections', 'Counter'): _mapping,
    ('collections', 'defaultdict'): lambda *_: {},  # its default is a function, no data
    ('argparse', 'Namespace'): _Fields,
    ('types', 'SimpleNamespace'): _Fields,
    ('copyreg', '_reconstructor'): _reconstruct,
    ('copy_reg', '_reconstructor'): _reconstruct,
    ('mmengine.config.config', 'ConfigDict'): _mapping,
    ('torch.torch_version', 'TorchVersion'): _first,
    **{
        (module, name): rule
        for module in ('builtins', '__builtin__')
        for name, rule in (
            *(('set', _set), ('frozenset', _set), ('dict', _mapping)),
            *(('complex', complex), ('getattr', _look_up_method)),
            ('bytes', lambda: b''),  # empty bytes, which old protocols store as a call
        )
    },
    ('numpy', 'dtype'): _Kind,
    ('_codecs', 'encode'): _encode,
    ('mmengine.logging.history_buffer', 'HistoryBuffer'): _History,
    **{
        (module, name): _path
        for module in ('pathlib', 'pathlib._local')
        for name in ('PosixPath', 'WindowsPath', 'PurePosixPath', 'PureWindowsPath')
    },
}


@dataclass(frozen=True)
class StorageKind:
    """The kind of number in a storage."""

    dtype: torch.dtype


@dataclass
class Storage:
    """The memory of one or more tensors."""

    content: Tensor  # (N,) numbers of one kind


class TensorBuilder:
    """Rules that make the tensors and arrays of one file.

    Attributes:
        storages: memory of the tensors by its key, to be filled with the content of the file.
    """

    def __init__(self, size: int) -> None:
        self.storages: dict[str, Storage] = {}
        self._size = size  # bytes of the file
        self._bytes_stored = self._bytes_viewed = self._bytes_copied = 0

    def rules(self) -> Rules:
        """Make the rules for the names that tensors and arrays need."""
        empty = partial(_Array, self._make_array)
        return {
            ('torch._utils', '_rebuild_tensor'): self._rebuild,
            ('torch._utils', '_rebuild_tensor_v2'): self._rebuild,
            ('torch._utils', '_rebuild_tensor_v3'): self._rebuild_v3,
            ('torch._utils', '_rebuild_parameter'): _rebuild_parameter,
            ('torch', 'Size'): _sizes,
            ('torch', 'device'): _first,
            ('torch.storage', 'UntypedStorage'): StorageKind(torch.uint8),
            **{('torch', name): dtype for name, dtype in _DTYPES.items()},
            **{('torch', f'{name}Storage'): StorageKind(_DTYPES[of]) for name, of in _STORAGES},
            ('numpy', 'ndarray'): empty,
            **{
                (f'numpy.{core}.{module}', name): rule
                for core in ('core', '_core')
                for module, name, rule in (
                    ('multiarray', '_reconstruct', empty),
                    ('multiarray', 'scalar', self._make_number),
                    ('numeric', '_frombuffer', self._make_array),
                )
            },
        }

    def count_bytes(self, count: int) -> None:
        """Count bytes of the file that are copied, which it can refer to any number of times."""
        self._bytes_copied += count
        if self._bytes_copied > _MOST_SHARING * self._size:
            raise ValueError(
                f'what it makes is more than {_MOST_SHARING} times as large as the file'
            )

    def load_storage(self, identifier: Any) -> Storage:
        """Give the storage that a pickle refers to.

        Raises:
            ValueError: the reference is to no storage, or contradicts an earlier reference.
        """
        tag, kind, key, _, count, *view = identifier
        is_kind = isinstance(kind, Name) and isinstance(kind.rule, StorageKind)
        if tag not in ('storage', b'storage') or not is_kind or any(view):
            raise ValueError('it refers to something that is no storage of PyTorch')
        if not isinstance(key, str) or type(count) is not int or not 0 <= count < 1 << 60:
            raise ValueError(f'it has a storage of {_shown(count)} elements')
        dtype = kind.rule.dtype
        if key not in self.storages:
            self._bytes_stored += count * dtype.itemsize
            if self._bytes_stored > self._size:
                raise ValueError('its storages are larger than the file')
            self.storages[key] = Storage(torch.empty(count, dtype=dtype))
        storage = self.storages[key]
        if storage.content.dtype != dtype or storage.content.numel() != count:
            raise ValueError(f'it describes the storage {key[:20]!r} in two ways')
        return storage

    def _rebuild_v3(self, storage: Any, *parts: Any) -> Tensor:
        dtype = parts[5]
        is_known = isinstance(dtype, Name) and isinstance(dtype.rule, torch.dtype)
        if not is_known or not isinstance(storage, Storage):
            raise ValueError('it has a tensor of an unknown kind')
        return self._rebuild(Storage(storage.content.view(dtype.rule)), *parts[:3])

    def _rebuild(self, storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Tensor:
        """Make a tensor; the other parts, such as hooks, are no data."""
        if not isinstance(storage, Storage):
            raise ValueError('it has a tensor without a storage')
        count, size, stride = storage.content.numel(), _sizes(size), _sizes(stride)
        num_elements: int = math.prod(size)
        is_inside = type(offset) is int and 0 <= offset <= count and len(size) == len(stride)
        if is_inside and num_elements:
            last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
            is_inside = last < count and num_elements <= count
        if not is_inside:
            raise ValueError(
                f'it has a tensor of size {size}, stride {stride} and offset {_shown(offset)} in '
                f'a storage of {count:,} elements'
            )
        self._bytes_viewed += num_elements * storage.content.element_size()
        if self._bytes_viewed > _MOST_SHARING * self._bytes_stored:
            raise ValueError(f'its tensors are more than {_MOST_SHARING} times what it stores')
        return storage.content.as_strided(size, stride, offset)

    def _make_array(
        self, content: Any, kind: Any, shape: Any = (), order: Any = 'C'
    ) -> NDArray[Any]:
        """Make an array in new memory, in this machine's byte order."""
        if isinstance(content, str):  # as Python 2, or its protocol, writes bytes
            content = content.encode('latin1')
        is_known = isinstance(kind, _Kind) and isinstance(content, bytes) and order in ('C', 'F')
        if not is_known or not isinstance(shape, tuple) or len(shape) > _MOST_DIMENSIONS:
            raise ValueError('it has an array that is not made of numbers')
        if any(type(side) is not int or not 0 <= side < 1 << 40 for side in shape):
            raise ValueError('it has an array without a valid shape')
        dtype = kind.dtype()
        if math.prod(shape) * dtype.itemsize != len(content):
            raise ValueError(f'it has an array of the shape {shape} and {len(content):,} bytes')
        self.count_bytes(len(content))
        array = np.frombuffer(content, dtype).reshape(shape, order=order)
        return array.astype(dtype.newbyteorder('='), order='C')

    def _make_number(self, kind: Any, content: Any) -> Any:
        return self._make_array(content, kind).item()


def _sizes(values: Any) -> tuple[int, ...]:
    is_tuple = isinstance(values, (tuple, list)) and len(values) <= _MOST_DIMENSIONS
    if not is_tuple or any(type(n) is not int or not 0 <= n < 1 << 40 for n in values):
        raise ValueError('it has a tensor whose size or stride is no tuple of numbers')
    return tuple(values)


def _rebuild_parameter(tensor: Any, *_: Any) -> Tensor:
    if not isinstance(tensor, Tensor):
        raise ValueError('it has a parameter that is no tensor')
    return tensor


def _shown(value: Any) -> str:
    """Show a value in an error; its type if its text could be long."""
    return repr(value)[:40] if isinstance(value, (str, int)) else type(value).__name__
