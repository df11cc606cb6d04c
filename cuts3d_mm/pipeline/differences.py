"""Say in which keys two configs differ."""

from __future__ import annotations

from typing import Any

_NOT_SET = 'not set'


def differing_keys(theirs: Any, ours: Any, where: str) -> list[str]:
    """Dotted keys whose values differ, as `key: theirs -> ours`; None is a value."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        return [
            line
            for key in sorted(theirs.keys() | ours.keys())
            for line in differing_keys(
                theirs.get(key, _NOT_SET), ours.get(key, _NOT_SET), f'{where}.{key}'
            )
        ]
    return [] if theirs == ours else [f'{where}: {theirs!r} -> {ours!r}']
