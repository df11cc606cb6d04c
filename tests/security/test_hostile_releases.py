"""Hostile releases, given to `cuts3d detect`: no payload runs, no traceback, one line each."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from copy import deepcopy

import numpy as np
import pytest
import torch
from helpers.hostile_models import BROKEN, HOSTILE, IMPORT, PACKAGE, TEXTS, write_payloads
from helpers.tiny_detectors import tiny_config
from mmcv.ops import batched_nms
from mmcv.transforms import Compose
from mmdet.registry import MODELS, VISUALIZERS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import CheckpointLoader
from mmengine.utils import import_modules_from_strings
from PIL import Image
from safetensors.torch import save_file

from cuts3d_mm.hub.client import CONFIG_FILE
from cuts3d_mm.hub.trusted_config import RELEASE_CONFIG, release_config
from cuts3d_mm.labellers.registry import LABELLERS


@pytest.fixture
def payloads(tmp_path, monkeypatch):
    hub = pytest.importorskip('transformers.dynamic_module_utils')
    monkeypatch.setattr(hub, 'HF_MODULES_CACHE', str(tmp_path / 'modules'))
    with write_payloads(tmp_path / 'payloads') as written:
        monkeypatch.syspath_prepend(str(written.folder))
        yield written
    for name in [name for name in sys.modules if name.split('.')[0] == PACKAGE]:
        del sys.modules[name]


@pytest.fixture(scope='module')
def ordinary():
    """A whole config as its training had it, as plain values."""
    return tiny_config().to_dict()


@pytest.fixture
def photo(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (60, 88, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / 'photo.png')
    return tmp_path / 'photo.png'


def write_release(folder, text):
    folder.mkdir()
    (folder / CONFIG_FILE).write_text(text)
    save_file({'x': torch.zeros(1)}, folder / 'model.safetensors')
    return folder


def hostile_config(ordinary, case, payloads):
    config = deepcopy(ordinary)
    case.change(config, payloads)
    return config


def let(trigger, config):
    """Build what holds the payload, as MMEngine does without a check."""
    init_default_scope('mmdet')
    if trigger == 'model':
        model = Config({'model': config['model']}).model
        registry = LABELLERS if 'Labeller' in str(model['type']) else MODELS
        registry.build(model)
    elif trigger == 'pipeline':
        Compose(config['test_dataloader']['dataset']['pipeline'])
    elif trigger == 'visualizer':
        VISUALIZERS.build(Config({'visualizer': config['visualizer']}).visualizer)
    elif trigger == 'nms':
        boxes, labels = torch.tensor([[0.0, 0, 1, 1]]), torch.zeros(1, dtype=torch.long)
        nms = {**config['model']['test_cfg']['rpn']['nms'], 'iou_threshold': 0.5}
        batched_nms(boxes, torch.ones(1), labels, nms)
    else:
        import_modules_from_strings(**config['custom_imports'])


def load_unsafely(filename, map_location=None):
    return torch.load(filename, map_location, weights_only=False)


@pytest.mark.slow
def test_payloads_are_live_where_mmengine_is_let_at_them(ordinary, payloads, monkeypatch):
    """Otherwise the next test would prove nothing."""
    live = [name for name, case in HOSTILE.items() if case.trigger]
    dead = []
    for name in live:
        config = hostile_config(ordinary, HOSTILE[name], payloads)
        with monkeypatch.context() as unsafe, suppress(Exception):  # whatever follows the payload
            unsafe.setitem(CheckpointLoader._schemes, '', load_unsafely)  # as MMEngine's own does
            let(HOSTILE[name].trigger, config)
        if not payloads.marker.exists():
            dead.append(name)
        payloads.marker.unlink(missing_ok=True)
        for module in [one for one in sys.modules if one.split('.')[0] == PACKAGE]:
            del sys.modules[module]
    assert dead == [] and len(live) + len(TEXTS) >= 40


@pytest.mark.slow
@pytest.mark.parametrize('name', HOSTILE)
def test_no_payload_of_a_config_runs(ordinary, payloads, cuts3d, photo, tmp_path, name):
    config = hostile_config(ordinary, HOSTILE[name], payloads)
    release = write_release(tmp_path / 'release', json.dumps(config))
    assert_harmless(cuts3d, payloads, tmp_path, photo, '--model', release)


@pytest.mark.slow
@pytest.mark.parametrize('name', [*TEXTS, *BROKEN])
def test_no_code_of_a_config_runs(ordinary, payloads, cuts3d, photo, tmp_path, name):
    text = BROKEN.get(name)
    if text is None:
        members = json.dumps(release_config(ordinary, 'ordinary'))[1:-1]
        text = TEXTS[name].replace('ORDINARY', members)
        text = text.replace('SCRIPT', payloads.named('script.py'))
    release = write_release(tmp_path / 'release', text)
    assert_harmless(cuts3d, payloads, tmp_path, photo, '--model', release)


@pytest.mark.parametrize('name', ['module as model.backbone', 'teacher of a file', 'import'])
def test_a_config_inside_of_weights_goes_through_the_same_door(
    ordinary, payloads, cuts3d, photo, tmp_path, name
):
    text = code = f'x = {IMPORT}\n'
    if name in HOSTILE:
        config = hostile_config(ordinary, HOSTILE[name], payloads)
        text, code = json.dumps(config), Config(config).pretty_text
    meta = {'cfg': code, RELEASE_CONFIG: text}
    content = {'state_dict': {'x': torch.zeros(1)}, 'meta': meta}
    torch.save(content, tmp_path / 'w.pth')
    assert_harmless(cuts3d, payloads, tmp_path, photo, '--weights', tmp_path / 'w.pth')


def test_a_release_runs_nothing_in_the_folder_that_it_is_used_from(
    ordinary, payloads, cuts3d, photo, tmp_path, monkeypatch
):
    """A module with the name of an allowed class is not imported in place of the class."""
    config = deepcopy(ordinary)
    config['model']['backbone'] = {'type': 'ResNet', 'depth': 18, 'norm_cfg': {'type': 'FPN'}}
    release = write_release(tmp_path / 'release', json.dumps(config))
    for name in ('ResNet', 'FPN', 'CLRHead', 'RoIAlign', 'MaxIoUAssigner'):
        (release / f'{name}.py').write_text(f'open({str(payloads.marker)!r}, "w")\n')
    monkeypatch.syspath_prepend(str(release))
    monkeypatch.chdir(release)
    assert_harmless(cuts3d, payloads, tmp_path, photo, '--model', '.')


def assert_harmless(cuts3d, payloads, tmp_path, photo, *model):
    arguments = (*model, '--device', 'cpu', '--out', tmp_path / 'out')
    code, _, err = cuts3d('detect', photo, *arguments)
    assert not payloads.marker.exists()
    assert not any(name.split('.')[0] == PACKAGE for name in sys.modules)
    told = [line for line in err.splitlines() if line.startswith('cuts3d')]
    assert code == 2 and len(told) == 1 and 'Traceback' not in err, err
