"""Check that the content of a folder was made by the run that continues in it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

_NOT_SET = 'not set'
_HASH = re.compile(r'[0-9a-f]{40,}')
_SHOWN_OF_HASH = 12  # characters of a hash in a message
_SHOWN_OF_VALUE, _SHOWN = 40, 3  # characters of other values but texts; differences
_NAMES = ('type', 'preset', '--config', '--detector')  # keys that say most of what differs


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
        RunMismatch: the descriptions differ; the message gives three differences and the remedy.
    """
    found = sorted(_compare(before, now, ''), key=_has_no_name)  # names of parts come first
    differing = [f'{where}: {_shown(old)} -> {_shown(new)}' for where, old, new in found]
    differing += others
    if differing:
        if len(differing) > _SHOWN:
            differing[_SHOWN:] = [f'and {len(differing) - _SHOWN} more']
        raise RunMismatch(
            f'{place} holds {content} of another run; differing: {"; ".join(differing)}; {remedy}'
        )


def _compare(before: Any, now: Any, where: str) -> Iterator[tuple[str, Any, Any]]:
    """Give the dotted keys whose values differ, with both values; None is a value."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in (*now, *(key for key in before if key not in now)):
            values = before.get(key, _NOT_SET), now.get(key, _NOT_SET)
            yield from _compare(*values, f'{where}.{key}'.lstrip('.'))
    elif before != now:
        yield where, before, now


def _has_no_name(difference: tuple[str, Any, Any]) -> bool:
    where, *values = difference
    is_part = any(isinstance(value, dict) and 'type' in value for value in values)
    return not is_part and where.rpartition('.')[2] not in _NAMES


def _shown(value: Any) -> str:
    if isinstance(value, str) and _HASH.fullmatch(value):
        return f'{value[:_SHOWN_OF_HASH]}...'
    text = str(value['type']) if isinstance(value, dict) and 'type' in value else repr(value)
    is_short = isinstance(value, str) or len(text) <= _SHOWN_OF_VALUE  # paths differ at the end
    return text if is_short else f'{text[:_SHOWN_OF_VALUE]}...'
