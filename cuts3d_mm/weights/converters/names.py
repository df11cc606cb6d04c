"""Rename weights between two layouts by one table, which must account for every name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from torch import Tensor

from cuts3d_mm.weights.fit import some_of

_FIELD = re.compile(r'\{(\w+?)(?:\+(\d+))?\}')


@dataclass(frozen=True)
class NamePair:
    """One kind of weight in two layouts, as templates that have the same fields.

    `{n}` stands for a number and `{n+1}` for the number that is larger by one; `{leaf}` for the
    last part of a name, such as `weight` or `running_mean`.
    """

    theirs: str
    ours: str


@dataclass(frozen=True)
class RenamedWeights:
    """A state dict in the other layout."""

    weights: dict[str, Tensor]
    left_out: tuple[str, ...]  # names that are known and have no counterpart


def to_ours(
    weights: Mapping[str, Tensor], pairs: Sequence[NamePair], unused: str = r'(?!)'
) -> RenamedWeights:
    """Rename weights of the other layout to ours; see `_rename_all`."""
    return _rename_all(weights, [(pair.theirs, pair.ours) for pair in pairs], unused)


def to_theirs(weights: Mapping[str, Tensor], pairs: Sequence[NamePair]) -> RenamedWeights:
    """Rename weights of ours to the other layout; see `_rename_all`."""
    return _rename_all(weights, [(pair.ours, pair.theirs) for pair in pairs], r'(?!)')


def _rename_all(
    weights: Mapping[str, Tensor], pairs: Sequence[tuple[str, str]], unused: str
) -> RenamedWeights:
    """Rename every weight by the first pair that fits.

    Args:
        weights: name -> tensor.
        pairs: templates, from and to.
        unused: pattern of the names that are left out.

    Raises:
        ValueError: a name fits no template, or two names become one.
    """
    renamed: dict[str, Tensor] = {}
    left_out, unknown, doubled = [], [], []
    for name, tensor in weights.items():
        new_name = next(filter(None, (_rename(name, *pair) for pair in pairs)), None)
        if re.fullmatch(unused, name):
            left_out.append(name)
        elif new_name is None:
            unknown.append(name)
        elif new_name in renamed:
            doubled.append(name)
        else:
            renamed[new_name] = tensor
    if unknown or doubled:
        raise ValueError(
            'every weight must have one place in the other layout; without one: '
            f'{some_of(unknown)}; with that of another weight: {some_of(doubled)}'
        )
    return RenamedWeights(renamed, tuple(left_out))


def _rename(name: str, template: str, other: str) -> str | None:
    found = _pattern(template).fullmatch(name)
    if found is None:
        return None
    shifts = {field: int(shift or 0) for field, shift in _FIELD.findall(template)}

    def fill(field: re.Match[str]) -> str:
        value = found[field[1]]
        return value if field[1] == 'leaf' else str(int(value) - shifts[field[1]] + _shift(field))

    return _FIELD.sub(fill, other)


def _shift(field: re.Match[str]) -> int:
    return int(field[2] or 0)


@cache
def _pattern(template: str) -> re.Pattern[str]:
    parts, end = [], 0
    for field in _FIELD.finditer(template):
        kind = r'[a-z_]+' if field[1] == 'leaf' else r'\d+'
        parts += [re.escape(template[end : field.start()]), f'(?P<{field[1]}>{kind})']
        end = field.end()
    return re.compile(''.join([*parts, re.escape(template[end:])]))
