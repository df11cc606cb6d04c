"""No command runs a Python file that lies in the current folder, whatever its name is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from helpers.commands import light_environment
from helpers.drawn import write_images
from helpers.training import write_inputs

from cuts3d_mm.cli import list_tools
from cuts3d_mm.configs import find_config

ROOT = Path(__file__).parents[2]
# The console script; `python -m` imports parts of Python itself before our code runs.
SCRIPT = 'from cuts3d_mm.__main__ import main\nmain()\n'
SHADOW = """
import os
with open({marker!r}, 'a') as file:
    file.write(__name__ + os.linesep)
raise ImportError('shadow')
"""


@pytest.fixture
def shadows(tmp_path):
    """A folder with a Python file for every module that could be imported; what has run."""
    folder = tmp_path / 'project'
    folder.mkdir()
    names = {*sys.stdlib_module_names, *packages_distributions(), 'kernels', 'sitecustomize'}
    for name in filter(str.isidentifier, names - {'cuts3d_mm', '__main__'}):
        (folder / f'{name}.py').write_text(SHADOW.format(marker=str(tmp_path / 'ran')))
    return folder, tmp_path / 'ran'


def run(folder, *arguments, start=None, **env):
    if start is None:
        script = folder.parent / 'bin/cuts3d'
        script.parent.mkdir(exist_ok=True)
        script.write_text(SCRIPT)
        start = (script,)
    command = [sys.executable, *map(str, (*start, *arguments))]
    env = {**os.environ, 'PYTHONPATH': str(ROOT), **env}
    env.pop('PYTHONSAFEPATH', None)
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.parametrize('name', sorted(list_tools()))
def test_a_command_up_to_a_mistake_runs_nothing_of_the_current_folder(shadows, name):
    folder, marker = shadows
    assert run(folder, name, 'nothing', 'nothing', 'nothing').returncode
    assert not marker.exists(), marker.read_text()


@pytest.mark.slow
def test_worker_processes_run_nothing_of_the_current_folder(shadows, rng):
    folder, marker = shadows
    write_images(folder / 'images', 3, rng)
    done = run(folder, 'generate', 'maskcut_color-texture', 'images', 'out', '--workers', 2)
    assert done.returncode == 0, done.stderr
    done = run(folder, 'view', 'out', 'images', 'views')
    assert done.returncode == 0, done.stderr
    assert not marker.exists(), marker.read_text()


CHILD = """
from cuts3d_mm.processes import start_child

if __name__ == '__main__':
    process, connection = start_child(print)
    process.join()
    raise SystemExit(process.exitcode)
"""


def test_a_child_of_a_program_of_a_user_runs_nothing_of_the_current_folder(shadows):
    folder, marker = shadows
    (folder.parent / 'own.py').write_text(CHILD)
    done = run(folder, start=(folder.parent / 'own.py',))
    assert done.returncode == 0 and 'Connection' in done.stdout, done.stderr
    assert not marker.exists(), marker.read_text()


@pytest.mark.slow
def test_a_training_runs_nothing_of_the_current_folder(shadows, tmp_path):
    folder, marker = shadows
    root = write_inputs(tmp_path / 'inputs')
    words = (root / 'images', 'out', '--config', root / 'generator.py', '--detector',
             root / 'detector.py', '--offline', '--workers', 0, '--rounds', 0)  # fmt: skip
    done = run(folder, 'learn', *words, PYTHONPATH=light_environment()['PYTHONPATH'])
    assert done.returncode == 0, done.stdout + done.stderr
    assert not marker.exists(), marker.read_text()


def test_a_checkout_that_is_the_current_folder_comes_behind_all_packages(tmp_path):
    ignored = shutil.ignore_patterns('.mim', '__pycache__')
    shutil.copytree(ROOT / 'cuts3d_mm', tmp_path / 'cuts3d_mm', ignore=ignored)
    (tmp_path / 'configs').symlink_to(ROOT / 'configs')
    for name in ('datasets', 'yapf', 'numpy', 'socket', 'scipy'):  # runpy needs none of them
        (tmp_path / f'{name}.py').write_text(SHADOW.format(marker=str(tmp_path / 'ran')))
    code = (
        'import cuts3d_mm, sys\n'
        'from cuts3d_mm.processes import run_command_in_child as run\n'
        'done = run([sys.executable, "-m", "cuts3d_mm", "score", "--help"])\n'
        'print(done.stdout, done.returncode, cuts3d_mm.__file__)\n'
    )
    (tmp_path / 'tools').mkdir()
    for name in ('score', 'child'):
        text = (ROOT / 'tools/score.py').read_text() if name == 'score' else code
        (tmp_path / f'tools/{name}.py').write_text(text)
    done = run(tmp_path, 'child', start=('-m', 'cuts3d_mm'), PYTHONPATH='')
    assert 'usage: cuts3d score' in done.stdout, done.stderr
    assert done.stdout.endswith(f' 0 {tmp_path / "cuts3d_mm/__init__.py"}\n')
    assert not (tmp_path / 'ran').exists(), (tmp_path / 'ran').read_text()


def test_a_bare_config_name_is_the_shipped_config_and_a_path_the_file(
    tmp_path, monkeypatch, cuts3d
):
    shipped = find_config('maskcut_color-texture')
    monkeypatch.chdir(tmp_path)
    Path(shipped.name).write_text('raise SystemExit("ran")')
    Path('mine.py').write_text('x = 1')
    for name in (shipped.name, shipped.stem):
        assert find_config(name) == shipped
    for name in (f'./{shipped.name}', str(tmp_path / shipped.name)):
        assert find_config(name).resolve() == tmp_path / shipped.name
    assert find_config('mine.py') == Path('mine.py')
    (tmp_path / 'images').mkdir()
    _, _, err = cuts3d('generate', shipped.name, 'images', 'out')
    assert f'./{shipped.name} would name the file in this folder' in err
