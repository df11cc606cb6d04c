"""Environments of processes in which some packages cannot be imported."""

from __future__ import annotations

import os
import tempfile
from functools import cache
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


def light_environment():
    """Environment variables for a process that needs no transformers.

    MMDetection imports them where they are installed, which takes seconds. With the mm* packages
    alone they are not.
    """
    return environment_without(Path(_folder_of_process().name), 'transformers')


@cache
def _folder_of_process():
    return tempfile.TemporaryDirectory()


def environment_without(folder, *packages):
    """Environment variables for a process that may import anything but these.

    Args:
        folder: where the file that refuses them may be written.
    """
    refuse(folder, *packages)
    path = os.pathsep.join([str(folder), str(ROOT)])
    return {**os.environ, 'PYTHONPATH': path}


def refuse(folder, *packages):
    """Write what refuses packages in processes that have a folder on their path."""
    (folder / 'sitecustomize.py').write_text(_HOOK.format(packages=packages))
