"""Every class that the installed packages register is on a list of ours."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import mmdet
import mmpretrain.models  # noqa: F401  its classes register
import pytest
from mmdet.registry import MODELS, TASK_UTILS
from mmdet.utils import register_all_modules
from mmengine.registry import MODELS as ROOT_MODELS
from mmpretrain.registry import MODELS as MMPRETRAIN_MODELS

from cuts3d_mm import registry as ours
from cuts3d_mm.hub import allow_list
from cuts3d_mm.hub.allow_list import REASONS

register_all_modules(False)
for registry in (ours.MODELS, ours.TASK_UTILS, MMPRETRAIN_MODELS):
    registry.import_from_location()
import_module('cuts3d_mm.models')
STOCK = allow_list.DETECTORS | allow_list.NETWORKS | allow_list.LAYERS | allow_list.LOSSES
PACKAGES = ('mmdet.', 'mmcv.', 'mmengine.', 'torch.', 'mmpretrain.', 'cuts3d_mm.')


def registered(registry, part=''):
    return {
        name
        for name, made in registry.module_dict.items()
        if made.__module__.startswith(PACKAGES) and part in made.__module__
    }


@pytest.mark.parametrize(
    ('found', 'allowed'),
    [
        (registered(MODELS) | registered(ROOT_MODELS), STOCK),
        (registered(TASK_UTILS), allow_list.TASK_UTILS),
        (registered(MMPRETRAIN_MODELS, '.backbones.'), allow_list.MMPRETRAIN),
        (registered(ours.MODELS), allow_list.OURS),
        (registered(ours.TASK_UTILS), allow_list.OUR_TASK_UTILS),
    ],
    ids=['models', 'task_utils', 'mmpretrain', 'ours', 'our_task_utils'],
)
def test_every_registered_class_is_allowed_or_refused_with_its_reason(found, allowed):
    assert found and found - allowed - REASONS.keys() == set()


def test_no_class_is_both_allowed_and_refused():
    lists = STOCK | allow_list.TASK_UTILS | allow_list.OURS | allow_list.OUR_TASK_UTILS
    assert lists & REASONS.keys() == set()
    assert allow_list.MMPRETRAIN & {'TIMMBackbone', 'AutoModelForCausalLM'} == set()


@pytest.mark.slow
def test_allowed_classes_read_no_files_and_evaluate_no_texts():
    """Known exceptions: weights that `init_cfg` or `pretrained` names, which are left out."""
    reading = re.compile(
        r'\beval\(|\bexec\(|import_module|torch\.load|np\.load|load_checkpoint\(|from_pretrained|'
        r'torch\.hub|\bfromfile|get_local_path|\bopen\(|load_url|list_from_file|create_model|'
        r'subprocess|os\.system|pickle'
    )
    known = {'pvt', 'swin', 'detectors_resnet'}  # in init_weights, from init_cfg
    found = set()
    for registry, allowed in (
        (MODELS, STOCK),
        (ROOT_MODELS, allow_list.LAYERS),
        (TASK_UTILS, allow_list.TASK_UTILS),
        (MMPRETRAIN_MODELS, allow_list.MMPRETRAIN),
    ):
        for name in allowed & registry.module_dict.keys():
            module = registry.module_dict[name].__module__
            if not module.startswith('torch.'):
                text = Path(import_module(module).__file__).read_text(encoding='utf-8')
                lines = [line.split('#')[0].replace('.eval()', '') for line in text.split('\n')]
                if any(reading.search(line) for line in lines):
                    found.add(module.rpartition('.')[2])
    assert found == known


def test_arguments_that_mmdetection_builds_as_task_utils_are_known():
    call = re.compile(r'TASK_UTILS\.build\(\s*([\w.\[\]\']+)')
    names = set()
    for path in (Path(mmdet.__file__).parent / 'models').rglob('*.py'):
        if not {'mot', 'trackers', 'tracking_heads', 'tracking'} & set(path.parts):
            names |= set(call.findall(path.read_text(encoding='utf-8')))
    arguments = {re.split(r"[.\['\]]+", name.rstrip("']"))[-1] for name in names}
    assert arguments - {'cfg', 'sampler_cfg'} <= allow_list.TASK_UTIL_ARGUMENTS
