"""Detectors inside other tools; a tool is imported when one of its functions is called."""

from __future__ import annotations

from typing import Any


def class_names(detector: Any) -> tuple[str, ...]:
    """Names of the classes of a detector: `object` alone, unless it was taught others."""
    meta = getattr(getattr(detector, 'detector', None), 'dataset_meta', None) or {}
    return tuple(meta.get('classes') or ('object',))
