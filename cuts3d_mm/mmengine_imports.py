"""Adjust MMEngine when it is imported: it finds our configs, and says less."""

from __future__ import annotations

import importlib.abc
import importlib.util
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

# Beginnings of warnings, as regular expressions.
_WARNINGS = (
    'faster_coco_eval is not installed',  # another metric than ours
    'Fail to import ``MultiScaleDeformableAttention``',  # of detectors with a transformer
    '`Visualizer` backend is not initialized',  # nothing is drawn by it
    'pkg_resources is deprecated',
    '`?torch.jit',  # of scripted functions that MMPretrain brings
)
# Beginnings of what MMEngine prints or logs.
_LOGGED = (
    'Could not import OneDL',  # data sets of a vendor
    # DetInferencer asks for a function by the scope of models; it gets the right one.
    'Failed to search registry with scope "mmdet" in the "function" registry tree',
)


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


def silence() -> None:
    """Keep these messages out of the output of this process; all others stay."""
    for message in _WARNINGS:
        warnings.filterwarnings('ignore', message=message)
    run_after_import('mmengine.logging', _filter_print_log)


def _filter_print_log(logging: ModuleType) -> None:
    print_log = logging.print_log  # type: ignore[attr-defined]
    if getattr(print_log, 'is_filtered', False):
        return

    def print_some(msg: Any, *args: Any, **kwargs: Any) -> None:
        if not str(msg).startswith(_LOGGED):
            print_log(msg, *args, **kwargs)

    print_some.is_filtered = True  # type: ignore[attr-defined]
    logging.print_log = print_some  # type: ignore[attr-defined]
