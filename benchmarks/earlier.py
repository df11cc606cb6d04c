"""Import what an earlier revision of this repository computes, to compare with it in one run."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
import tempfile
from importlib import import_module
from pathlib import Path
from types import ModuleType

REPOSITORY = Path(__file__).resolve().parents[1]
PARTS = ('cuts3d_mm/algorithm', 'cuts3d_mm/arrays.py')
_folders: list[tempfile.TemporaryDirectory[str]] = []  # deleted when the process ends


def import_earlier(revision: str, module: str) -> ModuleType:
    """Import a module of `cuts3d_mm.algorithm` as it was at a revision.

    Args:
        revision: as git names it.
        module: such as `crf`.
    """
    packed = subprocess.run(
        ['git', '-C', str(REPOSITORY), 'archive', revision, *PARTS],
        check=True,
        capture_output=True,
    )
    folder = tempfile.TemporaryDirectory()
    _folders.append(folder)
    package = f'cuts3d_mm_{len(_folders)}'
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
        for member in archive.getmembers():
            content = archive.extractfile(member)
            if content is not None and member.name.endswith('.py'):
                path = Path(folder.name, member.name.replace('cuts3d_mm', package, 1))
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(content.read().decode().replace('cuts3d_mm', package))
    sys.path.insert(0, folder.name)
    return import_module(f'{package}.algorithm.{module}')
