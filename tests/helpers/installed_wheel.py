"""A release as it is built, and the package as its wheel installs it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from helpers.commands import refuse

ROOT = Path(__file__).parents[2]
# Where requirements/install.sh puts a setuptools for an environment whose own is too old.
BACKEND = Path(sys.prefix, 'backend')
BUILD = """
import sys
import setuptools

if int(setuptools.__version__.split('.')[0]) < 77:
    sys.exit(f'setuptools {setuptools.__version__} does not know the metadata of pyproject.toml')
from setuptools import build_meta

print(getattr(build_meta, f'build_{sys.argv[1]}')(sys.argv[2]))
"""
KERNELS = Path('cuts3d_mm/algorithm/kernels')


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


@dataclass(frozen=True)
class Built:
    """What a release consists of; the wheel is built from the unpacked sdist, as pip does it."""

    sdist: Path
    wheel: Path
    unpacked: Path


def build_release(checkout, folder):
    """Build the sdist from a copy of the checkout and the wheel from the sdist."""
    sdist = build('sdist', checkout, folder / 'dist')
    with tarfile.open(sdist) as archive:
        archive.extractall(folder)
    unpacked = folder / sdist.name.removesuffix('.tar.gz')
    return Built(sdist, build('wheel', unpacked, folder / 'dist'), unpacked)


def copy_checkout(folder):
    """Copy the checkout without what git ignores; builds write into their folder."""
    ignored = [Path(line).name for line in (ROOT / '.gitignore').read_text('utf-8').split()]
    return shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns('.git', *ignored))


def build(kind, source, out):
    """Build a `sdist`, `wheel` or `editable` wheel as installers do; an sdist is packed again."""
    out.mkdir(exist_ok=True)
    variables = os.environ | {'PYTHONPATH': str(BACKEND)}
    variables.setdefault('SOURCE_DATE_EPOCH', '1580601600')  # 2020-02-02
    command = [sys.executable, '-c', BUILD, kind, str(out)]
    done = subprocess.run(command, cwd=source, env=variables, capture_output=True, text=True)
    if 'does not know the metadata' in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stdout + done.stderr
    path = out / done.stdout.split()[-1]
    if kind == 'sdist':
        subprocess.run([str(ROOT / '.ci/repack'), str(path)], env=variables, check=True)
    return path


def install_wheel(wheel, environment):
    """Install a wheel into a fresh environment, which is returned."""
    installed = Installed(environment)
    venv.create(installed.environment, with_pip=False)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed.site)
    # Where the stack is. An editable install there is not seen: its own .pth is not read.
    (installed.site / 'stack.pth').write_text(sysconfig.get_path('purelib') + '\n')
    refuse(installed.site, 'transformers')  # as in `light_environment`
    _copy_compiled(installed.site / KERNELS)
    return installed


def _copy_compiled(kernels):
    """Copy what numba has compiled for the checkout; it compares the times of the sources."""
    for source in (ROOT / KERNELS).glob('*.py'):
        shutil.copystat(source, kernels / source.name)
    for compiled in (ROOT / KERNELS / '__pycache__').glob('*.nb?'):
        (kernels / '__pycache__').mkdir(exist_ok=True)
        shutil.copy(compiled, kernels / '__pycache__')
