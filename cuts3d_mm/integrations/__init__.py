"""Detectors inside other tools; a tool is imported when one of its functions is called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def class_names(detector: Any) -> tuple[str, ...]:
    """Names of the classes of a detector: `object` alone, unless it was taught others."""
    meta = getattr(getattr(detector, 'detector', None), 'dataset_meta', None) or {}
    return tuple(meta.get('classes') or ('object',))


def class_index(names: Sequence[str], label: int) -> int:
    """Place of a class among the names; a class that has no name is the first one."""
    return label if label < len(names) else 0
