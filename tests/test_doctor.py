from __future__ import annotations

import json

import pytest

from cuts3d_mm import doctor
from cuts3d_mm.doctor import Facts, describe_environment, examine

GOOD = {
    'torch': '2.11.0',
    'torchvision': '0.26.0',
    'onedl-mmdetection': '3.5.1',
    'onedl-mmcv': '2.3.6',
    'onedl-mmengine': '0.10.12',
    'onedl-mmpretrain': '1.3.6',
    'opencv-python-headless': '4.11.0',
    'transformers': '4.57.6',
    'diffusers': '0.35.2',
    'huggingface-hub': '0.36.0',
    'timm': '1.0.31',
    'gradio': '6.17.3',
    'pydensecrf2': '1.1',
}


def findings(changes=(), errors=(), without=(), has_operators=True):
    versions = {k: v for k, v in {**GOOD, **dict(changes)}.items() if k not in without}
    return examine(Facts(versions, dict(errors), has_operators))


def test_good_environment_has_no_findings():
    assert findings() == []


@pytest.mark.parametrize(
    ('given', 'what', 'remedy'),
    [
        (
            {'changes': {'mmdet': '3.3.0'}},
            'installed together',
            'pip uninstall -y mmdet onedl-mmdetection',
        ),
        ({'without': ['onedl-mmcv']}, 'mmcv is not installed', 'pip install onedl-mmcv'),
        (
            {'changes': {'mmcv-lite': '2.1.0'}},
            'onedl-mmcv and mmcv-lite are installed together',
            'pip uninstall -y onedl-mmcv mmcv-lite',
        ),
        (
            {'errors': {'mmcv._ext': 'ImportError: undefined symbol'}},
            'do not load with torch 2.11.0: ImportError: undefined symbol',
            'pip install --force-reinstall --no-deps onedl-mmcv',
        ),
        (
            {'errors': {'mmcv.ops.nms': 'nms_impl: implementation for device cuda:0 not found.'}},
            'mmcv was compiled for another torch than 2.11.0: nms_impl',
            'install the torch that mmcv was compiled for',
        ),
        ({'errors': {'cv2': 'libGL'}}, 'cv2 cannot be imported', 'opencv-python-headless'),
        (
            {'changes': {'opencv-python': '4'}},
            'cv2 is installed 2 times',
            'pip uninstall -y opencv',
        ),
        (
            {'changes': {'transformers': '5.1.0'}, 'errors': {'mmpretrain.models': 'x'}},
            'mmpretrain cannot be imported with transformers 5.1.0',
            'transformers==4.57.6',
        ),
        (
            {'changes': {'transformers': '5.24.0'}, 'errors': {'mmdet.models': 'TypeError: x'}},
            'mmdet and mmpretrain cannot be imported with transformers 5.24.0',
            'transformers==4.57.6',
        ),
        (
            {'errors': {'mmpretrain.models': 'x'}},
            'mmpretrain cannot be imported: x',
            'named there',
        ),
        ({'changes': {'torchvision': '0.29.0'}}, 'do not fit', 'torchvision==0.26.*'),
        ({'errors': {'torchvision': 'nms'}}, 'do not fit: nms', 'torchvision==0.26.*'),
        ({'without': ['torch']}, 'torch is not installed', 'pip install torch'),
    ],
)
def test_serious_problem_is_found_with_its_remedy(given, what, remedy):
    (finding,) = findings(**given)
    assert finding.is_serious and what in finding.what and remedy in finding.remedy


def test_an_old_pillow_is_named_and_not_serious():
    (finding,) = findings({'pillow': '11.3.0'})
    assert 'pillow 11.3.0' in finding.what and not finding.is_serious
    assert "'pillow>=12.3'" in finding.remedy
    assert findings({'pillow': '12.3.0'}) == findings({'pillow': '13.0.0'}) == []


@pytest.mark.parametrize(
    'part', ['transformers', 'diffusers', 'huggingface-hub', 'timm', 'gradio', 'pydensecrf2']
)
def test_missing_optional_part_is_named_and_not_serious(part):
    (finding,) = findings(without=(part,))
    assert part in finding.what and not finding.is_serious and 'pip install' in finding.remedy


def test_mmcv_without_operators_is_no_problem_and_wheels_and_import_order_are_named():
    (finding,) = findings(has_operators=False)
    assert not finding.is_serious and 'import cuts3d_mm before mmdet' in finding.what
    assert 'torch 2.11.0' in finding.remedy and 'ready wheels' in finding.remedy


def test_torchvision_is_needed_where_mmcv_has_no_operators():
    found = findings(without=('torchvision',), has_operators=False)
    assert found[0].is_serious and found[0].remedy == 'pip install torchvision'
    assert findings(without=('torchvision',)) == []


def test_description_names_this_package_first():
    assert next(iter(describe_environment(Facts(GOOD, {})))) == 'cuts3d_mm'


def test_json_holds_what_the_text_says(cuts3d, monkeypatch):
    broken = Facts({**GOOD, 'mmdet': '3.3.0'}, {'cv2': 'libGL'})
    monkeypatch.setattr(doctor, 'gather_facts', lambda: broken)
    code, out, err = cuts3d('doctor', '--json')
    assert code == 1, err
    report = json.loads(out)
    _, text, _ = cuts3d('doctor')
    assert all(f'{name:24s}{found}\n' in text for name, found in report['environment'].items())
    assert [finding['what'] for finding in report['findings'] if finding['is_serious']] == [
        line.removeprefix('PROBLEM: ') for line in text.splitlines() if 'PROBLEM' in line
    ]


def test_good_environment_is_an_empty_list_in_json(cuts3d, monkeypatch):
    monkeypatch.setattr(doctor, 'gather_facts', lambda: Facts(GOOD, {}))
    code, out, err = cuts3d('doctor', '--json')
    assert code == 0 and json.loads(out)['findings'] == [], err
