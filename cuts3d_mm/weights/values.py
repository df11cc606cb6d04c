"""Check the keys that a pickle gives, and show its values in errors."""

from __future__ import annotations

from typing import Any


def shown(value: Any) -> str:
    """Show a value in an error; the kind of it where its text could be long."""
    return repr(value)[:40] if isinstance(value, (str, int)) else type(value).__name__


def require_key(key: Any) -> Any:
    """Let keys of a dict pass whose hash is cheap and cannot be chosen to collide.

    Raises:
        ValueError: another kind of key.
    """
    parts = key if isinstance(key, tuple) else (key,)
    for part in parts:
        is_small = isinstance(part, int) and abs(part) < 1 << 60
        if not is_small and not isinstance(part, (str, bytes, type(None))):
            raise ValueError(f'it has a {type(part).__name__} as a key')
    return key


def fill(target: dict[Any, Any], items: Any) -> dict[Any, Any]:
    """Set items of a dict, their keys checked."""
    for key, value in items:
        target[require_key(key)] = value
    return target
