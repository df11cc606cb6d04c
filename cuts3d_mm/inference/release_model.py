"""Build the detector of a release: no module is imported by a name in its config."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope, registry

from cuts3d_mm.registry import MODELS

# What a class of MMDetection raises when its arguments do not fit each other.
_MISFITS = (
    ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, MemoryError,
    NotImplementedError, RuntimeError, TypeError, ValueError,
)  # fmt: skip


def build_release_model(config: ConfigDict) -> Any:
    """Build a detector whose config `trusted_config` has checked.

    Raises:
        ValueError: its parts do not fit together, or need a package that is missing.
    """
    init_default_scope('mmdet')
    try:
        with _registered_classes_only():
            return MODELS.build(config)
    except _MISFITS as error:
        reason = ' '.join(f'{type(error).__name__}: {error}'.split())[:300]
        raise ValueError(
            f'model of the release must be one that can be built; {reason}'
        ) from error


@contextmanager
def _registered_classes_only() -> Iterator[None]:
    """Keep MMEngine from importing a name that a registry does not have."""
    original = registry.get_object_from_string

    def refuse(name: str) -> None:
        raise ImportError(f'{name} is no registered class')

    registry.get_object_from_string = refuse
    try:
        yield
    finally:
        registry.get_object_from_string = original
