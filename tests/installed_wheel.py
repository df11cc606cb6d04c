"""The package as a wheel installs it, in an environment of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Installed:
    """A fresh environment with the wheel; what the wheel needs comes from this environment."""

    environment: Path

    @property
    def site(self):
        return Path(sysconfig.get_path('purelib', vars={'base': str(self.environment)}))

    @property
    def shipped(self):
        return self.site / 'cuts3d_mm/.mim'

    def run(self, folder, *arguments, check=True):
        """Run Python in a folder; its result, or an error with all that it wrote."""
        variables = {k: v for k, v in os.environ.items() if k not in ('PYTHONPATH', 'PYTHONHOME')}
        python = self.environment / 'bin/python'
        done = subprocess.run(
            [str(python), *map(str, arguments)],
            cwd=folder,
            env=variables,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0 or not check, done.stdout + done.stderr
        return done


def build_wheel(folder):
    """Build the wheel from a copy of the checkout."""
    for name in ('cuts3d_mm', 'configs', 'tools'):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns('__pycache__'))
    for name in ('setup.py', 'pyproject.toml', 'MANIFEST.in', 'model-index.yml', 'README.md'):
        shutil.copy(ROOT / name, folder / name)
    code = "from setuptools.build_meta import build_wheel; print(build_wheel('dist'))"
    command = [sys.executable, '-c', code]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    (wheel,) = (folder / 'dist').glob('*.whl')
    return wheel


def install_wheel(tmp_path_factory):
    """Build the wheel and install it into a fresh environment, which is returned."""
    wheel = build_wheel(tmp_path_factory.mktemp('build'))
    installed = Installed(tmp_path_factory.mktemp('environment'))
    venv.create(installed.environment, with_pip=False)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed.site)
    # Where the stack is. An editable install there is not seen: its own .pth is not read.
    (installed.site / 'stack.pth').write_text(sysconfig.get_path('purelib') + '\n')
    return installed
