"""Tell whether what a folder holds was made by the run that goes on in it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

_NOT_SET = 'not set'
_HASH = re.compile(r'[0-9a-f]{40,}')
_SHOWN_OF_HASH = 12  # characters in a message


class RunMismatch(ValueError):
    """A place holds the work of another run."""


def require_same_run(
    place: object, content: str, before: Any, now: Any, remedy: str, others: Sequence[str] = ()
) -> None:
    """Check that a run goes on with what it began with.

    Args:
        place: folder or file that an earlier run has written.
        content: what it holds, such as 'labels'.
        before: description of that run: dicts of plain values.
        now: description of this run.
        remedy: how to go on, such as 'choose another OUT'.
        others: further differences, in words.

    Raises:
        RunMismatch: the descriptions differ; says where, and the remedy.
    """
    differing = [*_differences(before, now), *others]
    if differing:
        raise RunMismatch(
            f'{place} holds {content} of another run; differing: {"; ".join(differing)}; {remedy}'
        )


def _differences(before: Any, now: Any, where: str = '') -> list[str]:
    """Dotted keys whose values differ, as `key: before -> now`; None is a value."""
    if isinstance(before, dict) and isinstance(now, dict):
        return [
            line
            for key in (*now, *(key for key in before if key not in now))
            for line in _differences(
                before.get(key, _NOT_SET), now.get(key, _NOT_SET), f'{where}.{key}'.lstrip('.')
            )
        ]
    return [] if before == now else [f'{where}: {_shown(before)} -> {_shown(now)}']


def _shown(value: Any) -> str:
    if isinstance(value, str) and _HASH.fullmatch(value):
        return f'{value[:_SHOWN_OF_HASH]}...'
    return repr(value)
