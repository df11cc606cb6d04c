"""Take the tokens of a text one after the other, for `literal_text`."""

from __future__ import annotations

import ast
import io
import tokenize
import warnings
from collections.abc import Iterator
from typing import Any

CONSTANTS = {'None': None, 'True': True, 'False': False}
_MAX_DIGITS = 40
_SKIPPED = {tokenize.NL, tokenize.COMMENT}
_TEXT_PREFIXES = {'', 'r', 'u'}


class TokenReader:
    """Stands at a token; each method takes what it reads, or raises where it stands."""

    def __init__(self, text: str, name: str) -> None:
        self.name = name
        self.tokens: Iterator[tokenize.TokenInfo] = tokenize.generate_tokens(
            io.StringIO(text).readline
        )
        self.token = self._next()

    def _next(self) -> tokenize.TokenInfo:
        return next(token for token in self.tokens if token.type not in _SKIPPED)

    def take(self) -> str:
        """Take any token."""
        text, self.token = self.token.string, self._next()
        return text

    def is_at(self, symbol: str) -> bool:
        """Whether the next token is a symbol."""
        return self.token.type == tokenize.OP and self.token.string == symbol

    def take_symbol(self, symbol: str) -> None:
        """Take a symbol."""
        if not self.is_at(symbol):
            raise self.refusal()
        self.take()

    def take_name(self) -> str:
        """Take a name."""
        if self.token.type != tokenize.NAME or self.token.string in CONSTANTS:
            raise self.refusal()
        return self.take()

    def take_comma(self) -> bool:
        """Take a comma if there is one."""
        is_there = self.is_at(',')
        if is_there:
            self.take()
        return is_there

    def take_text(self) -> str:
        """Take a string, or several that stand next to each other."""
        parts = []
        while self.token.type == tokenize.STRING:  # adjacent strings are one
            text = self.token.string
            if text[: text.index(text[-1])].lower() not in _TEXT_PREFIXES:
                raise self.refusal()
            parts.append(_evaluate(self.take()))
        return ''.join(parts)

    def take_number(self) -> int | float:
        """Take a number without its sign."""
        text = self.token.string
        is_short = self.token.type == tokenize.NUMBER and len(text) <= _MAX_DIGITS
        if not is_short or text[-1] in 'jJ':
            raise self.refusal()
        number: int | float = _evaluate(self.take())
        return number

    def refusal(self) -> ValueError:
        """Error for the token that is not allowed here."""
        line = self.token.line.strip().split('\n')[0][:80]
        line = ''.join(sign if sign.isprintable() else '?' for sign in line)
        return ValueError(
            f'{self.name} must hold literals and dict(...) only, line {self.token.start[0]} is '
            f'code: {line}; a config that you trust is loaded by its path'
        )


def _evaluate(token: str) -> Any:
    """Value of one string or number."""
    with warnings.catch_warnings():  # of escapes that Python does not know
        warnings.simplefilter('ignore')
        return ast.literal_eval(token)
