"""What the sdist and the wheel hold, and that they are built to the same bytes."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest
from helpers.installed_wheel import ROOT, build, build_release, copy_checkout

import cuts3d_mm

SHIPPED = ('configs', 'demo', 'model-index.yml', 'tools')
MADE_BY_SETUPTOOLS = {'PKG-INFO', 'setup.cfg'}


def files_of(folder):
    """Paths of the files below a folder, or the path of the file that it is."""
    found = [folder] if folder.is_file() else folder.rglob('*')
    return {path for path in found if path.is_file() and '__pycache__' not in path.parts}


def names_in(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_sdist_holds_the_files_of_the_repository_and_no_other(release):
    listing = ['git', 'ls-files', '-z', '--cached', '--others', '--exclude-standard']
    if shutil.which('git') is None or not (ROOT / '.git').exists():
        pytest.skip('this is no repository of git')
    names = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    expected = {name for name in names.split('\0') if name and (ROOT / name).is_file()}
    with tarfile.open(release.sdist) as archive:
        files = [Path(entry.name) for entry in archive if entry.isfile()]
    found = {path.relative_to(release.unpacked.name) for path in files}
    found = {str(path) for path in found if path.parts[0] != 'cuts3d_mm.egg-info'}
    assert found == expected | MADE_BY_SETUPTOOLS


def test_wheel_holds_the_package_its_configs_tools_and_demo_and_nothing_else(release):
    checkout = release.unpacked.parent / 'checkout'
    package = {str(path.relative_to(checkout)) for path in files_of(checkout / 'cuts3d_mm')}
    shipped = {
        f'cuts3d_mm/.mim/{path.relative_to(checkout)}'
        for name in SHIPPED
        for path in files_of(checkout / name)
    }
    about = f'cuts3d_mm-{cuts3d_mm.__version__}.dist-info'
    metadata = {'METADATA', 'RECORD', 'WHEEL', 'entry_points.txt', 'licenses/LICENSE'}
    assert names_in(release.wheel) == package | shipped | {
        f'{about}/{name}' for name in metadata | {'top_level.txt'}
    }


@pytest.mark.slow
def test_what_work_has_left_in_a_checkout_gets_into_no_wheel_and_no_sdist(release, tmp_path):
    """Nor does what an earlier build and an editable install have left."""
    checkout = copy_checkout(tmp_path / 'checkout')
    build('editable', checkout, tmp_path / 'dist')
    for name in (
        'build/lib/cuts3d_mm/gone.py',
        'build/lib/cuts3d_mm/.mim/configs/gone.py',
        'cuts3d_mm/__pycache__/api.cpython-311.pyc',
        'demo/.ipynb_checkpoints/first_steps.ipynb',
        'demo/demo_out/index.html',
        'demo_out/index.html',
        'tools/__pycache__/train.cpython-311.pyc',
        'tools/work_dirs/demo/iter_1.pth',
    ):
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).touch()
    sdist = build('sdist', checkout, tmp_path / 'dist')
    assert sdist.read_bytes() == release.sdist.read_bytes()
    wheel = build('wheel', checkout, tmp_path / 'dist')
    assert names_in(wheel) == names_in(release.wheel)


@pytest.mark.slow
def test_building_again_elsewhere_and_later_gives_the_same_bytes(release, tmp_path):
    """In another folder, with other times and permissions."""
    copy = copy_checkout(tmp_path / 'elsewhere')
    for path in files_of(copy):
        os.utime(path, (1, 1))
        path.chmod(path.stat().st_mode & 0o700)
    again = build_release(copy, tmp_path)
    assert again.sdist.read_bytes() == release.sdist.read_bytes()
    assert again.wheel.read_bytes() == release.wheel.read_bytes()


@pytest.mark.slow
def test_source_date_epoch_is_the_time_of_the_files(release, tmp_path, monkeypatch):
    monkeypatch.setenv('SOURCE_DATE_EPOCH', '1700000000')  # 2023-11-14 22:13:20 UTC
    with zipfile.ZipFile(build('wheel', release.unpacked, tmp_path)) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(2023, 11, 14, 22, 13, 20)}


@pytest.mark.slow
def test_editable_install_is_a_path_and_links_to_what_the_checkout_ships(tmp_path):
    checkout = copy_checkout(tmp_path / 'checkout')
    for _ in range(2):
        wheel = build('editable', checkout, tmp_path)
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if '.dist-info/' not in name]
        (path,) = [archive.read(name).decode().strip() for name in names]
    assert Path(path) == checkout
    links = {link.name: os.readlink(link) for link in (checkout / 'cuts3d_mm/.mim').iterdir()}
    assert links == {name: f'../../{name}' for name in SHIPPED}


def test_metadata_say_where_the_project_lives_and_which_pythons_it_needs(release):
    with zipfile.ZipFile(release.wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith('/METADATA')]
        metadata = message_from_bytes(archive.read(name))
    assert metadata['Version'] == cuts3d_mm.__version__
    assert metadata['License-Expression'] == 'Apache-2.0'
    assert metadata['Requires-Python'] == '>=3.11'
    labels = {entry.partition(',')[0] for entry in metadata.get_all('Project-URL')}
    assert labels == {'Homepage', 'Documentation', 'Changelog', 'Issues', 'Paper'}
