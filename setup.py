"""Put what mim and MMEngine look for into `cuts3d_mm/.mim`; all else is in pyproject.toml."""

import os
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SHIPPED = ('configs', 'tools', 'demo', 'model-index.yml')
NOT_SHIPPED = shutil.ignore_patterns('.*', '__pycache__', 'demo_out', 'work_dirs')


class BuildWithShippedFiles(build_py):
    """Copies in a wheel, links in an editable install, where an edit counts at once."""

    def run(self):
        """Build the package, and add the files."""
        package = Path('' if self.editable_mode else self.build_lib, 'cuts3d_mm')
        if not self.editable_mode:
            shutil.rmtree(package, ignore_errors=True)  # modules of an earlier build
        super().run()
        shutil.rmtree(package / '.mim', ignore_errors=True)
        (package / '.mim').mkdir(parents=True)
        for name in SHIPPED:
            target = package / '.mim' / name
            if self.editable_mode:
                target.symlink_to(Path('../..', name))
            elif Path(name).is_dir():
                shutil.copytree(name, target, ignore=NOT_SHIPPED, copy_function=copy)
            else:
                copy(name, target)


def copy(source, target):
    """Copy a file; of its mode only whether it is a program, for the same bytes everywhere."""
    shutil.copyfile(source, target)
    os.chmod(target, 0o755 if os.access(source, os.X_OK) else 0o644)


setup(cmdclass={'build_py': BuildWithShippedFiles})
