"""Run a function as soon as somebody has imported a module."""

from __future__ import annotations

import importlib.abc
import importlib.util
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType


class _Waiting(importlib.abc.MetaPathFinder):
    """Finds one module as others would, and runs a function after it."""

    def __init__(self, name: str, function: Callable[[ModuleType], None]) -> None:
        self._name, self._function = name, function

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Wait for the module."""
        if name != self._name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            return spec
        run = spec.loader.exec_module

        def run_both(module: ModuleType) -> None:
            run(module)
            self._function(module)

        spec.loader.exec_module = run_both  # type: ignore[method-assign]
        return spec


def run_after_import(name: str, function: Callable[[ModuleType], None]) -> None:
    """Run a function on a module: now if it is imported already, else when it is.

    To import MMEngine for it would take a part of a second of every command, in which Ctrl-C
    is not yet handled.
    """
    if name in sys.modules:
        function(sys.modules[name])
    else:
        sys.meta_path.insert(0, _Waiting(name, function))
