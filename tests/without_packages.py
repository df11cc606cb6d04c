"""Environments of processes in which some packages cannot be imported."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).parents[1]
_HOOK = """
import importlib.abc, sys
class _Refusal(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition('.')[0] in {packages!r}:
            raise ImportError(name + ' must not be imported')
sys.meta_path.insert(0, _Refusal())
"""


def environment_without(folder, *packages):
    """Environment variables for a process that may import anything but these.

    Args:
        folder: where the file that refuses them may be written.
    """
    (folder / 'sitecustomize.py').write_text(_HOOK.format(packages=packages))
    path = os.pathsep.join([str(folder), str(ROOT)])
    return {**os.environ, 'PYTHONPATH': path}
