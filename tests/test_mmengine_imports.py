"""What is adjusted in MMEngine when it is imported, and only then."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from types import SimpleNamespace

import pytest

from cuts3d_mm import mmengine_imports
from cuts3d_mm.configs import shipped_root
from cuts3d_mm.mmengine_imports import run_after_import

OURS = 'cuts3d_mm::pseudo_labels/maskcut_color-texture.py'


@pytest.fixture
def late(tmp_path, monkeypatch):
    """Name of a module that nobody has imported yet."""
    (tmp_path / 'imported_late.py').write_text('value = 1\n')
    monkeypatch.syspath_prepend(tmp_path)
    yield 'imported_late'
    sys.modules.pop('imported_late', None)


def test_functions_run_in_order_when_a_module_is_imported(late):
    seen = []
    run_after_import(late, lambda module: seen.append(('first', module.value)))
    run_after_import(late, lambda module: seen.append(('second', module.value)))
    assert seen == []
    import_module(late)
    assert seen == [('first', 1), ('second', 1)]
    run_after_import(late, lambda module: seen.append(('now', module.value)))
    assert seen[2:] == [('now', 1)]


def test_one_finder_waits_for_all_modules():
    code = (
        'import sys, cuts3d_mm, cuts3d_mm.mmengine_imports as m; m.silence();'
        "print(sum(type(one).__module__ == m.__name__ for one in sys.meta_path), 'mmengine' in "
        'sys.modules)'
    )
    run = subprocess.run([sys.executable, '-c', code], check=True, capture_output=True, text=True)
    assert run.stdout.split() == ['1', 'False']


def test_configs_that_mmengine_misses_are_found_next_to_the_package():
    """OpenMMLab's looks for an editable install in site-packages."""

    def miss(cfg_path, filename):
        raise FileNotFoundError(cfg_path)

    module = SimpleNamespace(Config=SimpleNamespace(_get_cfg_path=miss))
    mmengine_imports._look_into_checkout(module)
    path, scope = module.Config._get_cfg_path(OURS, 'mine.py')
    assert path == str(shipped_root() / 'configs/pseudo_labels/maskcut_color-texture.py')
    assert scope == 'cuts3d_mm'
    with pytest.raises(FileNotFoundError, match='mmdet::none'):
        module.Config._get_cfg_path('mmdet::none.py', 'mine.py')


def test_configs_that_mmengine_finds_are_left_to_it():
    found = ('/site-packages/cuts3d_mm/.mim/configs/a.py', 'cuts3d_mm')
    module = SimpleNamespace(Config=SimpleNamespace(_get_cfg_path=lambda *names: found))
    mmengine_imports._look_into_checkout(module)
    assert module.Config._get_cfg_path(OURS, 'mine.py') == found


@pytest.fixture
def leaves_out(monkeypatch):
    """Whether MMDetection, after a look at a config, may import transformers."""
    monkeypatch.setattr(sys, 'meta_path', list(sys.meta_path))
    monkeypatch.setenv(mmengine_imports._LEAVES_OUT_KEY, '')
    for name in ('transformers', 'sklearn'):
        monkeypatch.delitem(sys.modules, name, raising=False)

    def look(config, name='transformers', importer='mmdet.models.layers'):
        mmengine_imports.leave_out_unused(config)
        monkeypatch.setattr(sys, 'meta_path', sys.meta_path[:1])  # nobody else finds it
        try:
            exec(f'import {name}', {'__name__': importer})
        except ModuleNotFoundError as error:
            return 'left out' in str(error)
        raise AssertionError

    return look


@pytest.mark.parametrize(
    'config', [{}, {'model': {'type': 'CascadeRCNN', 'neck': {'type': 'mmdet.FPN'}}}]
)
def test_what_no_class_of_a_config_uses_is_left_out_for_mmdetection(leaves_out, config):
    assert leaves_out(config)


@pytest.mark.parametrize('importer', ['mmpretrain.models', 'cuts3d_mm.labellers', '__main__'])
def test_others_import_what_is_left_out_for_mmdetection(leaves_out, importer):
    assert not leaves_out({}, importer=importer)


@pytest.mark.parametrize(
    'config',
    [
        {'model': {'language_model': {'type': 'BertModel'}}},
        {'model': [{'type': 'mmpretrain.ResNet'}]},
        {'model': {'type': 'my_file.Detector'}},
        {'custom_imports': {'imports': ['my_file']}},
        {'default_scope': 'mmyolo'},
    ],
)
def test_nothing_is_left_out_that_a_class_of_a_config_may_use(leaves_out, config):
    assert not leaves_out(config)
