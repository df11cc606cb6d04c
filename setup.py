"""Package metadata is in pyproject.toml; this adds configs and tools to wheel and sdist."""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
SHIPPED = ('configs', 'tools', 'model-index.yml')


class BuildWithShippedFiles(build_py):
    """Copy what mim and `cuts3d` look for into `cuts3d_mm/.mim` of the built package.

    Only into what is built: a `.mim` in a checkout would give every config two paths.
    """

    def run(self) -> None:
        """Build the package, then add the files."""
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib) / 'cuts3d_mm' / '.mim'
        shutil.rmtree(target, ignore_errors=True)
        for name in SHIPPED:
            source = ROOT / name
            if source.is_dir():
                ignored = shutil.ignore_patterns('__pycache__', '*.pyc')
                shutil.copytree(source, target / name, ignore=ignored)
            else:
                target.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target / name)


setup(cmdclass={'build_py': BuildWithShippedFiles})
