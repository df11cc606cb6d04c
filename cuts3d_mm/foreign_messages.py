"""Silence messages of other packages that say nothing to a user of our commands."""

from __future__ import annotations

import warnings
from types import ModuleType
from typing import Any

from cuts3d_mm.after_import import run_after_import

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
