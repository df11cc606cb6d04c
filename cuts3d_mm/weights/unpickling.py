"""Read pickled weights as data: no code in a pickle runs."""

from __future__ import annotations

import math
import pickletools
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Rules = Mapping[tuple[str, str], Any]
MOST_OPCODES = 5_000_000  # a training checkpoint of a large detector has 100,000
_CONSTANTS = {
    *('INT', 'BININT', 'BININT1', 'BININT2', 'LONG', 'LONG1', 'LONG4', 'FLOAT', 'BINFLOAT'),
    *('STRING', 'BINSTRING', 'SHORT_BINSTRING', 'BINBYTES', 'SHORT_BINBYTES', 'BINBYTES8'),
    *('UNICODE', 'SHORT_BINUNICODE', 'BINUNICODE', 'BINUNICODE8', 'NONE'),
}
_IGNORED = {'PROTO', 'FRAME', 'STOP'}
_NUMBER = re.compile(r'b1|[iu][1248]|f[248]|c8|c16')
_MOST_DIMENSIONS = 16
_DEEPEST = 40  # containers in containers; an optimizer has 5
_MOST_VALUES = 20_000_000  # a value that can be reached twice counts twice
_LEAVES = (type(None), bool, int, float, complex, str, bytes, Tensor, np.ndarray, torch.dtype)
_PATHS = ('PosixPath', 'WindowsPath', 'PurePosixPath', 'PureWindowsPath')
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
class Name:
    """A name in a pickle, such as `collections.OrderedDict`, and our rule for it."""

    module: str
    name: str
    rule: Any  # our function, or the value that the name stands for


class StandIn:
    """Stands for an object until the pickle has given its parts."""

    def set_state(self, state: Any) -> None:
        """Take the state of the object from the pickle."""
        raise NotImplementedError

    def finish(self) -> Any:
        """Return the plain value."""
        raise NotImplementedError


def read_pickle(file: BinaryIO, rules: Rules, load_persistent: Callable[[Any], Any]) -> Any:
    """Read one pickle; the file then stands after its last byte.

    Args:
        file: file that stands at the first byte of the pickle.
        rules: rule for each name that may occur.
        load_persistent: function that gives the object of a persistent id.

    Returns:
        Builtin containers, results of the rules, and stand-ins.

    Raises:
        ValueError, TypeError, LookupError, AssertionError: the file is no pickle, or the pickle
            does more than list data.
    """
    machine = _Machine(rules, load_persistent)
    for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        if count >= MOST_OPCODES:
            raise ValueError(f'it has more than {MOST_OPCODES:,} steps')
        machine.step(opcode.name, argument)
    return machine.stack[-1]


class _Machine:
    def __init__(self, rules: Rules, load_persistent: Callable[[Any], Any]) -> None:
        self.stack: list[Any] = []
        self.outer: list[list[Any]] = []  # stacks below the marks
        self.memo: dict[int, Any] = {}
        self.rules, self.load_persistent = rules, load_persistent

    def step(self, opcode: str, argument: Any) -> None:
        if opcode in _CONSTANTS:
            self.stack.append(argument)
        elif opcode in _IGNORED:
            return
        elif opcode in _STEPS:
            _STEPS[opcode](self, argument)
        else:
            raise ValueError(f'it uses {opcode}, which weights do not need')

    def pop_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.outer.pop()
        return items

    def pop_last(self, count: int) -> list[Any]:
        items = [self.stack.pop() for _ in range(count)]
        return items[::-1]

    def mark(self) -> None:
        self.outer.append(self.stack)
        self.stack = []

    def name(self, module: Any, name: Any) -> None:
        is_text = isinstance(module, str) and isinstance(name, str)
        rule = self.rules.get((module, name)) if is_text else None
        if rule is None:
            full = f'{module}.{name}' if is_text else 'something without a name'
            raise ValueError(
                f'it names {full:.80}, which could run code and which weights do not need; '
                'convert it to .safetensors where you trust it'
            )
        self.stack.append(Name(module, name, rule))

    def call(self, function: Any, arguments: Any) -> None:
        is_known = isinstance(function, Name) and callable(function.rule)
        if not is_known or not isinstance(arguments, tuple):
            raise ValueError('it calls something that is no function')
        self.stack.append(function.rule(*arguments))

    def build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, StandIn):
            target.set_state(state)
        elif isinstance(target, OrderedDict) and isinstance(state, dict):
            # PyTorch keeps versions of modules next to the weights.
            target._metadata = state.get('_metadata')  # type: ignore[attr-defined]
        else:
            raise ValueError(f'it gives a state to a {type(target).__name__}')

    def extend(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, list):
            raise ValueError(f'it appends to a {type(target).__name__}')
        target.extend(items)

    def update(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict):
            raise ValueError(f'it sets an item of a {type(target).__name__}')
        fill(target, _pairs(items))

    def add(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, set):
            raise ValueError(f'it adds to a {type(target).__name__}')
        target.update(require_key(item) for item in items)


def _pairs(items: list[Any]) -> Iterable[tuple[Any, Any]]:
    return zip(items[::2], items[1::2], strict=True)


def _push(machine: _Machine, make: Callable[[Any], Any], content: Any) -> None:
    machine.stack.append(make(content))


def require_key(key: Any) -> Any:
    """Check that the hash of a key is cheap and cannot be chosen to collide.

    Raises:
        ValueError: the key is of another kind.
    """
    parts = key if isinstance(key, tuple) else (key,)
    for part in parts:
        is_small = isinstance(part, int) and abs(part) < 1 << 60
        if not is_small and not isinstance(part, (str, bytes, type(None))):
            raise ValueError(f'it has a {type(part).__name__} as a key')
    return key


_STEPS: dict[str, Callable[[_Machine, Any], Any]] = {
    'NEWTRUE': lambda machine, _: machine.stack.append(True),
    'NEWFALSE': lambda machine, _: machine.stack.append(False),
    'BYTEARRAY8': lambda machine, content: machine.stack.append(bytes(content)),
    'EMPTY_LIST': lambda machine, _: machine.stack.append([]),
    'EMPTY_TUPLE': lambda machine, _: machine.stack.append(()),
    'EMPTY_DICT': lambda machine, _: machine.stack.append({}),
    'EMPTY_SET': lambda machine, _: machine.stack.append(set()),
    'MARK': lambda machine, _: machine.mark(),
    'POP': lambda machine, _: machine.stack.pop() if machine.stack else machine.pop_mark(),
    'POP_MARK': lambda machine, _: machine.pop_mark(),
    'DUP': lambda machine, _: machine.stack.append(machine.stack[-1]),
    'LIST': lambda machine, _: _push(machine, list, machine.pop_mark()),
    'TUPLE': lambda machine, _: _push(machine, tuple, machine.pop_mark()),
    'FROZENSET': lambda machine, _: _push(
        machine, frozenset, [require_key(item) for item in machine.pop_mark()]
    ),
    'DICT': lambda machine, _: _push(machine, _mapping, _pairs(machine.pop_mark())),
    'TUPLE1': lambda machine, _: _push(machine, tuple, machine.pop_last(1)),
    'TUPLE2': lambda machine, _: _push(machine, tuple, machine.pop_last(2)),
    'TUPLE3': lambda machine, _: _push(machine, tuple, machine.pop_last(3)),
    'APPEND': lambda machine, _: machine.extend(machine.pop_last(1)),
    'APPENDS': lambda machine, _: machine.extend(machine.pop_mark()),
    'SETITEM': lambda machine, _: machine.update(machine.pop_last(2)),
    'SETITEMS': lambda machine, _: machine.update(machine.pop_mark()),
    'ADDITEMS': lambda machine, _: machine.add(machine.pop_mark()),
    'GLOBAL': lambda machine, pair: machine.name(*pair.split(' ', 1)),
    'STACK_GLOBAL': lambda machine, _: machine.name(*machine.pop_last(2)),
    'REDUCE': lambda machine, _: machine.call(*machine.pop_last(2)),
    'NEWOBJ': lambda machine, _: machine.call(*machine.pop_last(2)),
    'BUILD': lambda machine, _: machine.build(),
    'BINPERSID': lambda machine, _: _push(machine, machine.load_persistent, machine.stack.pop()),
    **{
        opcode: lambda machine, key: machine.memo.__setitem__(key, machine.stack[-1])
        for opcode in ('PUT', 'BINPUT', 'LONG_BINPUT')
    },
    **{
        opcode: lambda machine, key: machine.stack.append(machine.memo[key])
        for opcode in ('GET', 'BINGET', 'LONG_BINGET')
    },
    'MEMOIZE': lambda machine, _: machine.memo.__setitem__(len(machine.memo), machine.stack[-1]),
}


class _Kind(StandIn):
    """Stands for a `numpy.dtype`: a kind of number and its byte order."""

    def __init__(self, code: Any, *_: Any) -> None:
        if not isinstance(code, str) or not _NUMBER.fullmatch(code):
            raise ValueError(f'it has an array of {shown(code)}, which is no kind of number')
        self.code = code
        self.order: Any = '='  # NumPy's sign for the byte order

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
    """Values of a log with the number of steps that each value sums up, as in MMEngine.

    Attributes:
        values: (N,) numbers.
        counts: (N,) numbers of steps.
        max_length: largest number of values that are kept.
    """

    def __init__(self) -> None:
        self.values = self.counts = np.empty(0)
        self.max_length = 1_000_000

    def set_state(self, state: Any) -> None:
        """Take the arrays; the rest of the state is methods, not data."""
        self.values, self.counts = (
            state[key].finish() for key in ('_log_history', '_count_history')
        )
        self.max_length = state['max_length']
        is_list = self.values.ndim == 1 and self.values.shape == self.counts.shape
        if not is_list or type(self.max_length) is not int or self.max_length < 1:
            raise ValueError('it has a log whose values and counts do not agree')


def _make_array(content: Any, kind: Any, shape: Any, order: Any) -> NDArray[Any]:
    """Make an array in new memory, in this machine's byte order."""
    if isinstance(content, str):  # as Python 2, or its protocol, writes bytes
        content = content.encode('latin1')
    is_known = isinstance(kind, _Kind) and isinstance(content, bytes) and order in ('C', 'F')
    if not is_known or not isinstance(shape, tuple) or len(shape) > _MOST_DIMENSIONS:
        raise ValueError('it has an array that is not made of numbers')
    if any(type(side) is not int or not 0 <= side < 1 << 40 for side in shape):
        raise ValueError('it has an array without a valid shape')
    if math.prod(shape) * kind.dtype.itemsize != len(content):
        raise ValueError(f'it has an array of the shape {shape} and {len(content):,} bytes')
    array = np.frombuffer(content, kind.dtype).reshape(shape, order=order)
    return array.astype(kind.dtype.newbyteorder('='), order='C')


def _make_number(kind: Any, content: Any) -> Any:
    return _make_array(content, kind, (), 'C').item()


def _encode(text: Any, encoding: Any) -> bytes:
    """Make bytes of a text, as old protocols store them."""
    if not isinstance(text, str) or encoding not in ('latin1', 'latin-1'):
        raise ValueError(f'it encodes text as {shown(encoding)}')
    return text.encode('latin1')


def _look_up_method(owner: Any, _: Any) -> None:
    """Leave out the methods of a log, which its pickle names."""
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
            ('numeric', '_frombuffer', _make_array),
        )
    },
}


class _Fields(StandIn):
    """Stands for an object that has only attributes, such as `argparse.Namespace`."""

    def __init__(self, *_: Any) -> None:
        self.fields: Any = {}

    def set_state(self, state: Any) -> None:
        self.fields = state

    def finish(self) -> Any:
        return self.fields


def to_plain(value: Any) -> Any:
    """Turn the result of `read_pickle` into containers, numbers, text, arrays and tensors.

    Raises:
        ValueError: a container holds itself, something is no data, or there are too many values.
    """
    return _Copier().copy(value, 0)[0]


class _Copier:
    def __init__(self) -> None:
        self._done: dict[int, tuple[Any, int] | None] = {}  # by id; None while it is copied

    def copy(self, value: Any, depth: int) -> tuple[Any, int]:
        """Copy a value; also count the values that can be reached from it."""
        if isinstance(value, _LEAVES):
            return value, 1
        if id(value) not in self._done:
            self._done[id(value)] = None
            self._done[id(value)] = self._copy_container(value, depth)
        found = self._done[id(value)]
        if found is None or depth > _DEEPEST or found[1] > _MOST_VALUES:
            raise ValueError('it has containers in one another without end')
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


def _ordered(items: Any = ()) -> dict[Any, Any]:
    return fill(OrderedDict(), items.items() if isinstance(items, dict) else items)


def _mapping(items: Any = ()) -> dict[Any, Any]:
    return dict(_ordered(items))


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
    """Make empty bytes, which old protocols store as a call."""
    return b''


def _empty_mapping(*_: Any) -> dict[Any, Any]:
    """Make a `defaultdict` without its default, a function that is no data."""
    return {}


def _reconstruct(kind: Any, *_: Any) -> Any:
    """Make an empty object, which old protocols store as a call."""
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


@dataclass(frozen=True)
class StorageKind:
    """The kind of number in a storage."""

    dtype: torch.dtype


@dataclass
class Storage:
    """The memory of one or more tensors."""

    content: Tensor  # (N,) numbers of one kind


class TensorBuilder:
    """Rules that make the tensors of one file.

    Args:
        load: function that gives a storage by its key, kind and number of elements.
    """

    def __init__(self, load: Callable[[str, StorageKind, int], Storage]) -> None:
        self._load = load
        self._storages: dict[str, Storage] = {}
        self._bytes_stored = self._bytes_viewed = 0

    def rules(self) -> Rules:
        """Make the rules for the names that tensors need."""
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
            ValueError: the reference is to no storage, or contradicts an earlier reference.
        """
        tag, kind, key, _, count, *view = identifier
        is_kind = isinstance(kind, Name) and isinstance(kind.rule, StorageKind)
        if tag not in ('storage', b'storage') or not is_kind or any(view):
            raise ValueError('it refers to something that is no storage of PyTorch')
        if not isinstance(key, str) or type(count) is not int or not 0 <= count < 1 << 60:
            raise ValueError(f'it has a storage of {shown(count)} elements')
        if key not in self._storages:
            self._storages[key] = self._load(key, kind.rule, count)
            self._bytes_stored += self._storages[key].content.numel() * kind.rule.dtype.itemsize
        storage = self._storages[key]
        if storage.content.dtype != kind.rule.dtype or storage.content.numel() != count:
            raise ValueError(f'it describes the storage {key[:20]!r} in two ways')
        return storage

    def _rebuild_v2(self, *parts: Any) -> Tensor:
        # The other parts, requires_grad and hooks, are no data.
        return self._rebuild(*parts[:4])

    def _rebuild_v3(self, storage: Any, *parts: Any) -> Tensor:
        dtype = parts[5]
        if not isinstance(dtype, Name) or not isinstance(dtype.rule, torch.dtype):
            raise ValueError('it has a tensor of an unknown kind')
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
    """Check that a view lies in its storage and has no more elements than the storage."""
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
        raise ValueError('it has a tensor whose size or stride is no tuple of numbers')
    return tuple(values)


def _device(kind: Any, *_: Any) -> str:
    return kind if isinstance(kind, str) else 'cpu'


def _rebuild_parameter(tensor: Any, *_: Any) -> Tensor:
    if not isinstance(tensor, Tensor):
        raise ValueError('it has a parameter that is no tensor')
    return tensor


def shown(value: Any) -> str:
    """Show a value in an error; its type if its text could be long."""
    return repr(value)[:40] if isinstance(value, (str, int)) else type(value).__name__


def fill(target: dict[Any, Any], items: Any) -> dict[Any, Any]:
    """Set items of a dict after a check of their keys."""
    for key, value in items:
        target[require_key(key)] = value
    return target
