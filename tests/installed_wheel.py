"""The package as a wheel installs it, without an installer."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def install_wheel(tmp_path_factory):
    """Build the package into a folder of its own, which is returned."""
    build = tmp_path_factory.mktemp('build')
    for name in ('cuts3d_mm', 'configs', 'tools'):
        shutil.copytree(ROOT / name, build / name, ignore=shutil.ignore_patterns('__pycache__'))
    for name in ('setup.py', 'pyproject.toml', 'MANIFEST.in', 'model-index.yml', 'README.md'):
        shutil.copy(ROOT / name, build / name)
    target = tmp_path_factory.mktemp('site')
    command = [sys.executable, 'setup.py', '-q', 'build', '--build-lib', str(target)]
    subprocess.run(command, cwd=build, check=True, capture_output=True)
    return target
