"""CutS3D for MMDetection: find and outline objects without a single human label."""

from __future__ import annotations

import importlib.abc
import importlib.util
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

__version__ = '0.1.0'

_PACKAGES = 'mmengine.config.utils'  # the module in which MMEngine looks packages up


class _ConfigRegistration(importlib.abc.MetaPathFinder):
    """Lets `_base_ = 'cuts3d_mm::...'` find our configs as soon as MMEngine is imported.

    Importing MMEngine here would take a second of every command, in which Ctrl-C is not yet
    handled, and the algorithm and the labels work without it.
    """

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Wait for the module, then register once it has run."""
        if name != _PACKAGES:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            return spec
        run = spec.loader.exec_module

        def run_and_register(module: ModuleType) -> None:
            run(module)
            _register(module)

        spec.loader.exec_module = run_and_register  # type: ignore[method-assign]
        return spec


def _register(module: ModuleType) -> None:
    module.MODULE2PACKAGE.setdefault('cuts3d_mm', 'cuts3d_mm')


if _PACKAGES in sys.modules:
    _register(sys.modules[_PACKAGES])
else:
    sys.meta_path.insert(0, _ConfigRegistration())
