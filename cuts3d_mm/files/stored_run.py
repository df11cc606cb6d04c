"""Check that the content of a folder was made by the run that continues in it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

_NOT_SET = 'not set'
_HASH = re.compile(r'[0-9a-f]{40,}')
_SHOWN_OF_HASH = 12  # characters of a hash in a message


class RunMismatch(ValueError):
    """A folder or file holds the work of another run."""


def require_same_run(
    place: object, content: str, before: Any, now: Any, remedy: str, others: Sequence[str] = ()
) -> None:
    """Check that a run continues the run that it began as.

    Args:
        place: folder or file that an earlier run wrote.
        content: word for the content of the place, such as 'labels'.
        before: description of the earlier run: dicts of plain values.
        now: description of this run.
        remedy: advice for the user, such as 'choose another OUT'.
        others: further differences, in words.

    Raises:
        RunMismatch: the descriptions differ; the message gives the differences and the remedy.
    """
    differing = [*_differences(before, now), *others]
    if differing:
        raise RunMismatch(
            f'{place} holds {content} of another run; differing: {"; ".join(differing)}; {remedy}'
        )


def _differences(before: Any, now: Any, where: str = '') -> list[str]:
    """List the dotted keys whose values differ, as `key: before -> now`; None is a value."""
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
