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

hatchling = pytest.importorskip('hatchling')

from hatchling.builders.sdist import SdistBuilder  # noqa: E402
from hatchling.builders.wheel import WheelBuilder  # noqa: E402
from helpers.installed_wheel import ROOT, build  # noqa: E402

import cuts3d_mm  # noqa: E402

SHIPPED = ('configs', 'tools', 'model-index.yml')


def files_of(folder):
    """Paths of the files below a folder, or the path of the file that it is."""
    found = [folder] if folder.is_file() else folder.rglob('*')
    return {path for path in found if path.is_file() and '__pycache__' not in path.parts}


def test_sdist_holds_the_files_of_the_repository_and_no_other(release):
    listing = ['git', 'ls-files', '-z', '--cached', '--others', '--exclude-standard']
    if shutil.which('git') is None or not (ROOT / '.git').exists():
        pytest.skip('this is no repository of git')
    names = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    expected = {name for name in names.split('\0') if name and (ROOT / name).is_file()}
    with tarfile.open(release.sdist) as archive:
        found = {Path(name).relative_to(release.unpacked.name) for name in archive.getnames()}
    assert {str(path) for path in found} == expected | {'PKG-INFO'}


def test_wheel_holds_the_package_its_configs_and_tools_and_nothing_else(release):
    package = {str(path.relative_to(ROOT)) for path in files_of(ROOT / 'cuts3d_mm')}
    shipped = {
        f'cuts3d_mm/.mim/{path.relative_to(ROOT)}'
        for name in SHIPPED
        for path in files_of(ROOT / name)
    }
    about = f'cuts3d_mm-{cuts3d_mm.__version__}.dist-info'
    metadata = {'METADATA', 'RECORD', 'WHEEL', 'entry_points.txt', 'licenses/LICENSE'}
    with zipfile.ZipFile(release.wheel) as archive:
        assert set(archive.namelist()) == package | shipped | {
            f'{about}/{name}' for name in metadata
        }


@pytest.mark.slow
def test_building_again_elsewhere_and_later_gives_the_same_bytes(release, tmp_path):
    """In another folder, with other times and permissions."""
    copy = shutil.copytree(release.unpacked, tmp_path / 'elsewhere')
    (copy / 'PKG-INFO').unlink()  # no checkout holds it
    for path in files_of(copy):
        os.utime(path, (1, 1))
        path.chmod(path.stat().st_mode & 0o700)
    sdist = build(SdistBuilder, copy, tmp_path / 'dist')
    assert sdist.read_bytes() == release.sdist.read_bytes()
    wheel = build(WheelBuilder, copy, tmp_path / 'dist')
    assert wheel.read_bytes() == release.wheel.read_bytes()


def test_source_date_epoch_is_the_time_of_the_files(release, tmp_path, monkeypatch):
    monkeypatch.setenv('SOURCE_DATE_EPOCH', '1700000000')  # 2023-11-14 22:13:20 UTC
    with zipfile.ZipFile(build(WheelBuilder, release.unpacked, tmp_path)) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(2023, 11, 14, 22, 13, 20)}


def test_editable_install_brings_no_second_copy_of_the_configs(release, tmp_path):
    wheel = build(WheelBuilder, release.unpacked, tmp_path, 'editable')
    with zipfile.ZipFile(wheel) as archive:
        assert not [name for name in archive.namelist() if name.startswith('cuts3d_mm/')]


def test_metadata_say_where_the_project_lives_and_which_pythons_it_needs(release):
    with zipfile.ZipFile(release.wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith('/METADATA')]
        metadata = message_from_bytes(archive.read(name))
    assert metadata['Version'] == cuts3d_mm.__version__
    assert metadata['License-Expression'] == 'Apache-2.0'
    assert metadata['Requires-Python'] == '>=3.10'
    labels = {entry.partition(',')[0] for entry in metadata.get_all('Project-URL')}
    assert labels == {'Homepage', 'Documentation', 'Changelog', 'Issues', 'Paper'}
