"""Adjust MMEngine when it is imported: it finds our configs, and says less."""

from __future__ import annotations

import importlib.abc
import importlib.util
import sys
import warnings
from collections import defaultdict
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


class _AfterImport(importlib.abc.MetaPathFinder):
    """Finds modules as others would, and runs functions after their import."""

    def __init__(self) -> None:
        self.functions: dict[str, list[Callable[[ModuleType], None]]] = defaultdict(list)

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Wait for the modules that functions were given for."""
        functions = self.functions.pop(name, None)
        if functions is None:
            return None
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            return spec
        load = spec.loader.exec_module

        def load_and_run(module: ModuleType) -> None:
            load(module)
            for function in functions:
                function(module)

        spec.loader.exec_module = load_and_run  # type: ignore[method-assign]
        return spec


_FINDER = _AfterImport()


def run_after_import(name: str, function: Callable[[ModuleType], None]) -> None:
    """Run a function on a module: now if it is imported already, else when it is.

    To import MMEngine for it would take a part of a second of every command, in which Ctrl-C
    is not yet handled.
    """
    if name in sys.modules:
        function(sys.modules[name])
        return
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)
    _FINDER.functions[name].append(function)


def find_our_configs() -> None:
    """Let configs of other projects begin with `_base_ = 'cuts3d_mm::FOLDER/NAME.py'`."""
    run_after_import('mmengine.config.utils', _register_package)
    run_after_import('mmengine.config.config', _look_into_checkout)


def _register_package(utils: ModuleType) -> None:
    utils.MODULE2PACKAGE.setdefault('cuts3d_mm', 'cuts3d_mm')  # type: ignore[attr-defined]


def _look_into_checkout(config: ModuleType) -> None:
    """Name the config in the checkout where MMEngine finds no `.mim`.

    Two cases: OpenMMLab's MMEngine looks for an editable install in site-packages, and a
    checkout that is only on PYTHONPATH has no `.mim`.
    """
    kind = config.Config  # type: ignore[attr-defined]
    find_installed = kind._get_cfg_path

    def find(cfg_path: str, filename: str) -> tuple[str, str | None]:
        package, _, name = cfg_path.partition('::')
        try:
            found: tuple[str, str | None] = find_installed(cfg_path, filename)
            return found
        except FileNotFoundError:
            if package != 'cuts3d_mm':
                raise
        from cuts3d_mm.configs import shipped_root

        return str(shipped_root() / 'configs' / name), package

    kind._get_cfg_path = staticmethod(find)


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
