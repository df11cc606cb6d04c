"""NMS and RoIAlign of torchvision in place of mmcv's compiled ones."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.commands import refuse

from cuts3d_mm import operators

torch = pytest.importorskip('torch')
mmcv = pytest.importorskip('mmcv')
ROOT = Path(__file__).parents[1]
FILE = 'import importlib.machinery; print("_ext" + importlib.machinery.EXTENSION_SUFFIXES[0])'
DETECTOR_TESTS = ('models', 'labellers/test_detector.py', 'structures/test_confidence_masks.py')


@pytest.fixture(scope='module')
def compiled():
    """The compiled operators, where mmcv has them."""
    if not operators.are_compiled():
        pytest.skip('this mmcv has no compiled operators to compare with')
    from mmcv import _ext

    return _ext


@pytest.fixture(scope='module')
def bare(tmp_path_factory):
    """A folder with the installed mmcv, but without its compiled operators."""
    folder = tmp_path_factory.mktemp('bare')
    (folder / 'mmcv').mkdir()
    for path in Path(mmcv.__file__).parent.iterdir():
        if not path.name.startswith(('_ext', '__pycache__')):
            (folder / 'mmcv' / path.name).symlink_to(path)
    refuse(folder, 'transformers')  # as in `light_environment`
    return folder


def run(folder, *arguments, is_ok=True):
    """Run Python with what lies in a folder before everything else."""
    path = os.pathsep.join([str(folder), str(ROOT)])
    command = [sys.executable, *map(str, arguments)]
    environment = {**os.environ, 'PYTHONPATH': path}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (done.returncode == 0) == is_ok, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout if is_ok else done.stderr


def boxes_of(count, size=200):
    corner, extent = torch.rand(count, 2) * size, torch.rand(count, 2) * size / 2
    return torch.cat([corner, corner + extent], dim=1)


@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('iou_threshold', [0.3, 0.5, 0.7])
def test_nms_keeps_the_boxes_that_the_compiled_one_keeps(compiled, offset, iou_threshold):
    torch.manual_seed(0)
    boxes, scores = boxes_of(500), torch.rand(500)
    wanted = compiled.nms(boxes, scores, iou_threshold=iou_threshold, offset=offset)
    kept = operators.nms(boxes, scores, iou_threshold, offset)
    assert 50 < len(kept) < 500 and torch.equal(kept, wanted)


@pytest.mark.parametrize('iou_threshold', [0.5, 0.65])
def test_batched_nms_is_equal_to_the_last_bit(compiled, monkeypatch, iou_threshold):
    from mmcv.ops import batched_nms

    torch.manual_seed(0)
    boxes, scores, classes = boxes_of(400), torch.rand(400), torch.randint(5, (400,))
    config = {'type': 'nms', 'iou_threshold': iou_threshold}
    wanted = batched_nms(boxes, scores, classes, config)
    monkeypatch.setattr(sys.modules['mmcv.ops.nms'], 'ext_module', operators)
    found = batched_nms(boxes, scores, classes, config)
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('sampling_ratio', [0, 2])
@pytest.mark.parametrize(('size', 'scale'), [((7, 7), 0.25), ((14, 9), 0.0625)])
def test_roi_align_and_its_gradient_are_equal_to_the_last_bit(
    compiled, monkeypatch, aligned, sampling_ratio, size, scale
):
    from mmcv.ops import roi_align

    torch.manual_seed(0)
    rois = torch.cat([torch.randint(2, (40, 1)).float(), boxes_of(40)], dim=1)
    values, weights = torch.rand(2, 8, 50, 70), torch.rand(40, 8, *size)

    def align():
        features = values.clone().requires_grad_()
        out = roi_align(features, rois, size, scale, sampling_ratio, 'avg', aligned)
        (out * weights).sum().backward()
        return out.detach(), features.grad

    wanted = align()
    monkeypatch.setattr(sys.modules['mmcv.ops.roi_align'], 'ext_module', operators)
    found = align()
    assert wanted[1].any() and all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


def test_no_box_is_kept_of_none():
    kept = operators.nms(torch.zeros(0, 4), torch.zeros(0), 0.5, 0)
    assert kept.shape == (0,) and kept.dtype == torch.long


def test_the_gradient_of_no_region_is_zero():
    gradient = torch.ones(2, 3, 5, 6)
    nothing = torch.zeros(0)
    operators.roi_align_backward(
        *(torch.zeros(0, 3, 7, 7), torch.zeros(0, 5), nothing, nothing, gradient),
        *(7, 7, 0.25, 0, operators.AVERAGE, True),
    )
    assert not gradient.any()


def test_compiled_operators_win(compiled):
    assert Path(compiled.__file__).name.startswith('_ext.')


def test_nothing_heavy_is_imported_for_the_operators():
    code = "import sys, cuts3d_mm; print({'torch', 'mmcv', 'mmengine'} & {*sys.modules})"
    assert run(ROOT, '-c', code) == 'set()\n'


USE = """
import warnings
warnings.simplefilter('error', UserWarning)
import cuts3d_mm
from mmcv.ops import RoIPool, get_compiler_version, nms, roi_align, soft_nms
import mmcv.ops, torch
from cuts3d_mm.operators import are_compiled
box = torch.tensor([[0.0, 0.0, 9.0, 9.0]])
print(are_compiled(), len(nms(box, torch.ones(1), 0.5)[1]), get_compiler_version())
for call in (
    lambda: soft_nms(box, torch.ones(1)),
    lambda: RoIPool(2)(torch.ones(1, 1, 9, 9), torch.zeros(1, 5)),
    lambda: roi_align(torch.ones(1, 1, 9, 9), torch.zeros(1, 5), (2, 2), 1.0, 0, 'max'),
):
    try:
        call()
    except ImportError as error:
        print(error)
"""


@pytest.mark.slow
def test_other_operators_raise_by_name_with_the_remedy(bare):
    out = run(bare, '-c', USE)
    first, *errors = out.splitlines()
    assert first == 'False 1 n/a'
    names = ('operator softnms,', 'operator roi_pool_forward,', "roi_align with pool_mode 'max',")
    for error, name in zip(errors, names, strict=True):
        assert name in error
        assert 'install a ready wheel' in error and 'MMCV=compile make setup' in error


TOOL = """
import sys
from mmengine.config import Config
from mmengine.runner import Runner
from mmdet.utils import setup_cache_size_limit_of_dynamo
Config.fromfile(sys.argv[1])
from mmcv.ops import nms
"""


@pytest.mark.slow
def test_custom_imports_are_early_enough_for_the_tools_of_mmdet(bare, tmp_path):
    """They read the config before they import models; see `tools/train.py` of mmdet."""
    spec = importlib.util.find_spec('mmdet')
    tool = (Path(spec.origin).parent / '.mim/tools/train.py').read_text('utf-8')
    lines = [line for line in tool.splitlines() if line.startswith(('import mm', 'from mm'))]
    allowed = {'mmengine.config', 'mmengine.registry', 'mmengine.runner', 'mmdet.utils'}
    assert {line.split()[1] for line in lines} <= allowed, 'the tool imports more than is tried'
    config = tmp_path / 'config.py'
    config.write_text("custom_imports = dict(imports=['cuts3d_mm'])\n")
    run(bare, '-W', 'ignore', '-c', TOOL, config)
    config.write_text('')
    assert 'mmcv._ext' in run(bare, '-W', 'ignore', '-c', TOOL, config, is_ok=False)


@pytest.mark.slow
def test_operators_that_do_not_load_are_an_error_with_the_remedy(bare, tmp_path):
    broken = tmp_path / 'mmcv'
    broken.mkdir()
    for path in (bare / 'mmcv').iterdir():
        (broken / path.name).symlink_to(path)
    (broken / run(tmp_path, '-c', FILE).strip()).write_bytes(b'compiled for another torch')
    error = run(tmp_path, '-c', 'import cuts3d_mm, mmcv.ops', is_ok=False)
    assert f'must load with torch {torch.__version__}, but they do not' in error
    assert 'pip install --force-reinstall --no-deps onedl-mmcv' in error


@pytest.mark.parametrize(
    ('version', 'python', 'wheels'),
    [
        (
            '2.9.0+cu129',
            '3.12',
            'for torch 2.9.0+cu129: onedl-mmcv from https://mmwheels.onedl.ai',
        ),
        ('2.1.0', '3.11', 'for torch 2.1.0: mmcv==2.1.0 from https://download.openmmlab.com'),
        ('2.11.0+cpu', '3.11', 'none for torch 2.11.0+cpu with Python 3.11, but for torch 2.1.0'),
    ],
)
def test_ready_wheels_are_named_for_the_installed_torch(version, python, wheels):
    assert operators.describe_wheels(version, python).startswith(wheels)


@pytest.mark.slow
def test_the_tests_of_detectors_pass_without_compiled_operators(bare, compiled):
    """Where mmcv has none, the whole suite runs so."""
    tests = [ROOT / 'tests' / name for name in DETECTOR_TESTS]
    out = run(bare, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', *tests)
    assert ' passed' in out
