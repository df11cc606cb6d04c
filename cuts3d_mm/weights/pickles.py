"""Read a pickle as data: no name in it is imported and nothing in it is called.

The machine below knows what each opcode does to the stack. Names stay text; a name that is called
must be one of the rules, functions of ours that check their arguments.
"""

from __future__ import annotations

import pickletools
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from cuts3d_mm.weights.values import fill, require_key

Rules = Mapping[tuple[str, str], Any]
MOST_OPCODES = 5_000_000  # a training checkpoint of a large detector has 100,000
_CONSTANTS = {
    *('INT', 'BININT', 'BININT1', 'BININT2', 'LONG', 'LONG1', 'LONG4', 'FLOAT', 'BINFLOAT'),
    *('STRING', 'BINSTRING', 'SHORT_BINSTRING', 'BINBYTES', 'SHORT_BINBYTES', 'BINBYTES8'),
    *('UNICODE', 'SHORT_BINUNICODE', 'BINUNICODE', 'BINUNICODE8', 'NONE'),
}


@dataclass(frozen=True)
class Name:
    """A name in a pickle, such as `collections.OrderedDict`, and what we do for it."""

    module: str
    name: str
    rule: Any  # a function of ours, or a value that the name stands for


class StandIn:
    """Stands for an object while the pickle gives its parts."""

    def set_state(self, state: Any) -> None:
        """Take what the pickle calls the state of the object."""
        raise NotImplementedError

    def finish(self) -> Any:
        """Give the plain value."""
        raise NotImplementedError


def read_pickle(file: BinaryIO, rules: Rules, load_persistent: Callable[[Any], Any]) -> Any:
    """Read one pickle; the file is left behind its last byte.

    Args:
        file: at the first byte of the pickle.
        rules: what each name that may occur stands for.
        load_persistent: gives the object that a persistent id stands for.

    Returns:
        Builtin containers, what the rules gave, and stand-ins.

    Raises:
        ValueError, TypeError, LookupError, AssertionError: no pickle, or one that does more than
            to list data.
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
            raise ValueError(f'it uses {opcode}, which weights have no need of')

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
            full = f'{module}.{name}' if is_text else 'what is no name'
            raise ValueError(
                f'it names {full:.80}, which could run code and which weights have no need of; '
                'convert it to .safetensors where you trust it'
            )
        self.stack.append(Name(module, name, rule))

    def call(self, function: Any, arguments: Any) -> None:
        is_known = isinstance(function, Name) and callable(function.rule)
        if not is_known or not isinstance(arguments, tuple):
            raise ValueError('it calls what is no function')
        self.stack.append(function.rule(*arguments))

    def build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, StandIn):
            target.set_state(state)
        elif isinstance(target, OrderedDict) and isinstance(state, dict):
            # Versions of modules, which PyTorch keeps next to the weights.
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
        fill(target, zip(items[::2], items[1::2], strict=True))

    def add(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, set):
            raise ValueError(f'it adds to a {type(target).__name__}')
        target.update(require_key(item) for item in items)


_IGNORED = {'PROTO', 'FRAME', 'STOP'}
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
    'DICT': lambda machine, _: _push_dict(machine, machine.pop_mark()),
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


def _push(machine: _Machine, make: Callable[[Any], Any], content: Any) -> None:
    machine.stack.append(make(content))


def _push_dict(machine: _Machine, items: list[Any]) -> None:
    machine.stack.append(fill({}, zip(items[::2], items[1::2], strict=True)))
