from __future__ import annotations

import pytest
from mmengine.config import Config

from cuts3d_mm.engine.configuration import load_config
from cuts3d_mm.hub.literal_config import read_literal_config
from cuts3d_mm.hub.publishing.release import flatten_config
from cuts3d_mm.shipped_files import find_config, shipped_root

CONFIGS = sorted((shipped_root() / 'configs/cuts3d').glob('*.py'))


@pytest.mark.parametrize('name', [path.name for path in CONFIGS])
def test_every_shipped_detector_config_is_read_as_mmengine_reads_it(tmp_path, name):
    (tmp_path / 'flat.py').write_text(flatten_config(load_config(name, [])))
    expected = Config.fromfile(tmp_path / 'flat.py').to_dict()
    assert read_literal_config(tmp_path / 'flat.py') == expected
    original = Config.fromfile(find_config(name)).to_dict()
    assert expected['model'] == original['model']


@pytest.mark.parametrize(
    'text',
    [
        'import os',
        'a = open("x")',
        'a = dict(**b)',
        'a = {**b}',
        'a = [1 for _ in ()]',
        'a.b = 1',
        'a = b = 1',
        'a = f"{x}"',
        'a = __import__("os").system("echo")',
        'print("x")',
        '_base_ = ["../x.py"] + []',
    ],
)
def test_code_is_refused_with_its_line(tmp_path, text):
    (tmp_path / 'c.py').write_text(f'x = 1\n{text}\n')
    with pytest.raises(ValueError, match='line 2 is code'):
        read_literal_config(tmp_path / 'c.py')


@pytest.mark.parametrize(
    'name',
    ['os.system', 'subprocess.Popen', 'mmengine.dump', 'a b', 'mmdet.x.Y', '__import__("os")'],
)
def test_types_that_are_no_registered_class_are_refused(tmp_path, name):
    (tmp_path / 'c.py').write_text(f'model = dict(parts=[dict(type={name!r}, args=["x"])])\n')
    with pytest.raises(ValueError, match='must be the name of a class'):
        read_literal_config(tmp_path / 'c.py')


def test_values_keep_their_kinds(tmp_path):
    text = (
        "a = (1, -2.5, None)\nb = {'x-y': [True, 'z']}\nc = dict(type='mmdet.Resize', s=(2, 3))\n"
    )
    (tmp_path / 'c.py').write_text(text)
    found = read_literal_config(tmp_path / 'c.py')
    assert found == {
        'a': (1, -2.5, None),
        'b': {'x-y': [True, 'z']},
        'c': {'type': 'mmdet.Resize', 's': (2, 3)},
    }


def test_other_files_are_refused(tmp_path):
    (tmp_path / 'c.py').write_bytes(b'\x00\xff')
    with pytest.raises(ValueError, match='it is no Python'):
        read_literal_config(tmp_path / 'c.py')
