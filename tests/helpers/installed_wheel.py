"""A release as it is built, and the package as its wheel installs it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
import tarfile
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder
from helpers.commands import refuse

ROOT = Path(__file__).parents[2]
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


def build_release(folder):
    """Build the sdist from the checkout and the wheel from the sdist."""
    sdist = build(SdistBuilder, ROOT, folder / 'dist')
    with tarfile.open(sdist) as archive:
        archive.extractall(folder)
    unpacked = folder / sdist.name.removesuffix('.tar.gz')
    return Built(sdist, build(WheelBuilder, unpacked, folder / 'dist'), unpacked)


def build(builder, source, out, version='standard'):
    """Build one file of a release."""
    (path,) = builder(str(source)).build(directory=str(out), versions=[version])
    return Path(path)


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
