"""What a release does not tell: where files lie on the machine that made it."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def without_absolute_paths(value: Any) -> Any:
    """Replace every absolute path in nested containers by its last part."""
    if isinstance(value, dict):
        return {key: without_absolute_paths(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(without_absolute_paths(item) for item in value)
    if isinstance(value, str) and Path(value).is_absolute():
        return Path(value).name
    return value
