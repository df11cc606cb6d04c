"""Adjust MMEngine when it is imported: it finds our configs, says less, and imports less."""

from __future__ import annotations

import importlib.abc
import importlib.util
import os
import re
import sys
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
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
# Libraries that take up to seconds to import -> modules that take them for optional. PyArrow
# imports pandas on behalf of who makes a table.
_UNUSED = {
    **dict.fromkeys(('transformers', 'mmpretrain', 'sklearn'), r'(mmdet|mmengine\.optim)\.'),
    'pandas': r'cuts3d_mm\.',
}
# Classes that need them: language models, their texts, tracking, an optimizer.
_USERS = re.compile(
    r'bert|glip|groundingdino|vlfusion|reid|text|randomsamplingnegpos|token|adafactor|interpolate|paa|lad',
    re.I,
)
_KNOWN_SCOPES = 'mmdet', 'mmcv', 'mmengine', 'cuts3d_mm', 'torch'
_LEAVES_OUT_KEY = 'CUTS3D_LEAVES_OUT'  # environment: id of the process whose children do so, too


class _AfterImport(importlib.abc.MetaPathFinder):
    """Finds modules as others would, and runs functions after their import."""

    def __init__(self) -> None:
        self.functions: dict[str, list[Callable[[Any], object]]] = defaultdict(list)

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


def run_after_import(name: str, function: Callable[[Any], object]) -> None:
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
    name = 'cuts3d_mm'
    run_after_import(
        'mmengine.config.utils', lambda utils: utils.MODULE2PACKAGE.setdefault(name, name)
    )
    run_after_import('mmengine.config.config', _look_into_checkout)


def _look_into_checkout(config: Any) -> None:
    """Name the config in the checkout where MMEngine finds no `.mim`.

    Two cases: OpenMMLab's MMEngine looks for an editable install in site-packages, and a
    checkout that is only on PYTHONPATH has no `.mim`.
    """
    kind = config.Config
    find_installed = kind._get_cfg_path

    def find(cfg_path: str, filename: str) -> tuple[str, str | None]:
        package, _, name = cfg_path.partition('::')
        try:
            return find_installed(cfg_path, filename)  # type: ignore[no-any-return]
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


def _filter_print_log(logging: Any) -> None:
    print_log = logging.print_log
    if getattr(print_log, 'is_filtered', False):
        return

    def print_some(msg: Any, *args: Any, **kwargs: Any) -> None:
        if not str(msg).startswith(_LOGGED):
            print_log(msg, *args, **kwargs)

    print_some.is_filtered = True  # type: ignore[attr-defined]
    logging.print_log = print_some


class _Unused(importlib.abc.MetaPathFinder):
    """Says to some modules, and to no others, that libraries are missing."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> None:
        """Raise for the first import of such a library."""
        importer = _UNUSED.get(name)
        if importer is None:
            return
        frame = sys._getframe(1)
        while frame.f_back is not None and 'importlib' in frame.f_code.co_filename:
            frame = frame.f_back
        if re.match(importer, frame.f_globals.get('__name__', '')):
            raise ModuleNotFoundError(f'{name} is left out: no class of the config uses it')


def leave_out_unused(config: Mapping[str, Any]) -> None:
    """Let MMDetection not import what takes seconds, unless a class of a config may need it.

    For the process of a command and its children, before MMDetection is imported; never for a
    process of the user. {} stands for classes of this package and MMDetection's detectors
    without language.
    """
    imports = (config.get('custom_imports') or {}).get('imports') or []
    modules = [imports] if isinstance(imports, str) else imports
    is_plain = config.get('default_scope', 'mmdet') in _KNOWN_SCOPES
    is_known = all(name.startswith('cuts3d_mm.') for name in modules)
    may_use = any(
        _USERS.search(kind) or ('.' in kind and kind.partition('.')[0] not in _KNOWN_SCOPES)
        for kind in _kinds(config)
    )
    if is_plain and is_known and not may_use:
        os.environ[_LEAVES_OUT_KEY] = str(os.getpid())
        sys.meta_path.insert(0, _Unused())


def _kinds(part: Any) -> Iterator[str]:
    """Names of the classes of a config, with their scope or module."""
    if isinstance(part, Mapping):
        kind = part.get('type')
        if kind is not None:
            is_class = isinstance(kind, type)
            yield f'{kind.__module__}.{kind.__qualname__}' if is_class else str(kind)
        part = list(part.values())
    if isinstance(part, (list, tuple)):
        for value in part:
            yield from _kinds(value)


if os.environ.get(_LEAVES_OUT_KEY) == str(os.getppid()):
    sys.meta_path.insert(0, _Unused())
