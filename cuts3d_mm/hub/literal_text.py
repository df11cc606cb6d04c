"""Read a config that is written as assignments of literals, without running it.

MMEngine runs a Python config as code. Here the text is read token by token with a fixed limit on
its size and depth, so that no text can crash the interpreter: Python's own parser is recursive.
"""

from __future__ import annotations

import tokenize
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cuts3d_mm.hub.literal_tokens import CONSTANTS, TokenReader

MAX_BYTES = 1 << 19
MAX_DEPTH = 64  # of brackets; the detectors that MMDetection ships have 9


def read_literals(path: Path) -> dict[str, Any]:
    """Read a file of assignments such as `model = dict(type='X', depth=18)`.

    Raises:
        ValueError: it is too large or holds more than literals; says where.
    """
    with path.open('rb') as file:
        content = file.read(MAX_BYTES + 1)
    try:
        text = content.decode('utf-8')
    except UnicodeDecodeError as error:
        raise ValueError(f'{path} must be a config of MMEngine, it is no Python') from error
    return parse_literals(text, str(path))


def parse_literals(text: str, name: str) -> dict[str, Any]:
    """Read a text of assignments.

    Args:
        text: as MMEngine writes a config.
        name: for errors.

    Raises:
        ValueError: as of `read_literals`.
    """
    if len(text) > MAX_BYTES:
        raise ValueError(f'{name} must be a config of at most {MAX_BYTES} bytes, it is larger')
    try:
        return _Reader(text, name).assignments()
    except (tokenize.TokenError, SyntaxError) as error:
        raise ValueError(f'{name} must be a config of MMEngine, it is no Python') from error


class _Reader(TokenReader):
    """Descends through the tokens."""

    depth = 0  # of brackets

    def assignments(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while self.token.type != tokenize.ENDMARKER:
            if self.token.type == tokenize.NEWLINE:
                self.take()
                continue
            key = self.take_name()
            self.take_symbol('=')
            self._put(found, key, self._value())
            if self.token.type != tokenize.NEWLINE:
                raise self.refusal()
        return found

    def _value(self) -> Any:
        kind, text = self.token.type, self.token.string
        if kind == tokenize.STRING:
            return self.take_text()
        if kind == tokenize.NUMBER:
            return self.take_number()
        if kind == tokenize.NAME and text in CONSTANTS:
            return CONSTANTS[self.take()]
        if self.is_at('-'):
            self.take()
            return -self.take_number()
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ValueError(f'{self.name} must be nested at most {MAX_DEPTH} deep, it is deeper')
        value = self._container()
        self.depth -= 1
        return value

    def _container(self) -> Any:
        if self.token.type == tokenize.NAME and self.token.string == 'dict':
            self.take()
            self.take_symbol('(')
            return self._keywords()
        if self.is_at('{'):
            self.take()
            return self._pairs({}, True, self._key, ':', '}')
        if self.is_at('['):
            self.take()
            return self._elements(']')[0]
        self.take_symbol('(')
        elements, has_comma = self._elements(')')
        return elements[0] if len(elements) == 1 and not has_comma else tuple(elements)

    def _elements(self, end: str) -> tuple[list[Any], bool]:
        """Values up to a bracket, and whether a comma follows the last one."""
        found: list[Any] = []
        has_comma = True
        while not self.is_at(end):
            if not has_comma:
                raise self.refusal()
            found.append(self._value())
            has_comma = self.take_comma()
        self.take()
        return found, has_comma and bool(found)

    def _keywords(self) -> dict[Any, Any]:
        """What stands in the brackets of `dict(...)`; MMEngine also writes `dict({...})`."""
        found: dict[Any, Any] = {}
        has_comma = True
        if self.is_at('{'):
            self.take()
            found = self._pairs({}, True, self._key, ':', '}')
            has_comma = self.take_comma()
        return self._pairs(found, has_comma, self.take_name, '=', ')')

    def _pairs(
        self,
        found: dict[Any, Any],
        has_comma: bool,
        read_key: Callable[[], Any],
        symbol: str,
        end: str,
    ) -> dict[Any, Any]:
        """Add keys and values up to a bracket."""
        while not self.is_at(end):
            if not has_comma:
                raise self.refusal()
            key = read_key()
            self.take_symbol(symbol)
            self._put(found, key, self._value())
            has_comma = self.take_comma()
        self.take()
        return found

    def _key(self) -> Any:
        if self.token.type not in (tokenize.STRING, tokenize.NUMBER):
            raise self.refusal()
        return self._value()

    def _put(self, found: dict[Any, Any], key: Any, value: Any) -> None:
        if key in found:
            raise ValueError(f'{self.name} must give every key once, it gives {key!r} twice')
        found[key] = value
