"""What an installed wheel brings, shown by unpacking one."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from installed_wheel import ROOT, install_wheel


@pytest.fixture(scope='module')
def installed(tmp_path_factory):
    return install_wheel(tmp_path_factory)


def run(installed, *arguments):
    environment = {**os.environ, 'PYTHONPATH': str(installed)}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=installed,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_wheel_brings_configs_and_tools(installed):
    shipped = installed / 'cuts3d_mm/.mim'
    assert (shipped / 'configs/pseudo_labels/maskcut_color-texture.py').is_file()
    assert (installed / 'cuts3d_mm/py.typed').is_file()
    assert (shipped / 'tools/generate.py').is_file() and (shipped / 'model-index.yml').is_file()


def test_commands_run_from_the_wheel(installed):
    listed = run(installed, '-m', 'cuts3d_mm', '--help')
    for path in (ROOT / 'tools').glob('*.py'):
        assert f'  {path.stem.replace("_", "-")} ' in listed
    assert 'usage: cuts3d export' in run(installed, '-m', 'cuts3d_mm', 'export', '--help')


def test_shipped_config_is_found_by_name(installed):
    code = "import cuts3d_mm.configs as s;print(s.find_config('maskcut_color-texture'))"
    assert '.mim/configs/pseudo_labels/maskcut_color-texture.py' in run(installed, '-c', code)


def test_other_projects_inherit_from_shipped_configs(installed, tmp_path):
    config = tmp_path / 'mine.py'
    config.write_text("_base_ = 'cuts3d_mm::pseudo_labels/maskcut_color-texture.py'\n")
    dist_info = installed / 'cuts3d_mm-0.1.0.dist-info'
    dist_info.mkdir(exist_ok=True)
    (dist_info / 'METADATA').write_text('Metadata-Version: 2.1\nName: cuts3d_mm\nVersion: 0.1.0\n')
    code = (
        'import cuts3d_mm; from mmengine.config import Config;'
        f'print(Config.fromfile({str(config)!r}).model.recipe.preset)'
    )
    assert run(installed, '-c', code).strip() == 'maskcut'
