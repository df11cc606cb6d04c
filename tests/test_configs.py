from __future__ import annotations

import sys

import numpy as np
import pytest
from mmcv.transforms import Compose
from mmdet.datasets.transforms import LoadAnnotations
from mmengine.registry import init_default_scope

from cuts3d_mm.configs import (
    find_config,
    load_config,
    load_generator_config,
    read_arrays,
    read_generator_config,
    shipped_root,
    without_labels,
)

RESIZE = {'type': 'Resize', 'scale': (64, 48), 'keep_ratio': False}
PACK = {'type': 'mmdet.PackDetInputs', 'meta_keys': ('img_id', 'img_path', 'scale_factor')}
LOADERS_OF_LABELS = [
    {'type': 'LoadAnnotations', 'with_mask': True},
    {'type': 'mmdet.LoadPanopticAnnotations'},
    {'type': 'cuts3d_mm.LoadPseudoLabels'},
    {'type': 'LoadProposals'},
    {'type': 'FilterAnnotations'},
    {'type': LoadAnnotations},
]


@pytest.mark.parametrize('loader', LOADERS_OF_LABELS, ids=lambda step: str(step['type']))
def test_steps_that_need_labels_are_left_out(loader):
    image = {'type': 'LoadImageFromFile'}
    assert without_labels([image, loader, RESIZE, PACK]) == [image, RESIZE, PACK]
    assert [step['type'] for step in read_arrays([image, loader, RESIZE])][1:] == ['Resize']


def test_a_pipeline_takes_an_array_instead_of_a_file(rng):
    init_default_scope('mmdet')
    steps = [{'type': 'LoadImageFromFile', 'to_float32': True}, *LOADERS_OF_LABELS, RESIZE, PACK]
    bgr = rng.integers(0, 255, (30, 50, 3), np.uint8)
    packed = Compose(read_arrays(steps))({'img': bgr, 'img_id': 0})
    assert tuple(packed['inputs'].shape) == (3, 48, 64) and packed['inputs'].is_floating_point()
    assert packed['data_samples'].scale_factor == pytest.approx((64 / 50, 48 / 30))


def test_a_pipeline_that_is_changed_stays_as_it_was():
    steps = [{'type': 'LoadImageFromFile'}, dict(PACK)]
    read_arrays(steps), without_labels(steps)
    assert steps == [{'type': 'LoadImageFromFile'}, PACK]


@pytest.mark.parametrize('layout', ['checkout', 'editable', 'wheel'])
def test_shipped_files_have_one_root_in_every_layout(layout, tmp_path, monkeypatch):
    package = tmp_path / 'cuts3d_mm'
    root = package / '.mim' if layout == 'wheel' else tmp_path
    (root / 'configs').mkdir(parents=True)
    if layout == 'editable':
        (package / '.mim').mkdir(parents=True)
        (package / '.mim/configs').symlink_to('../../configs')
    monkeypatch.setattr('cuts3d_mm.configs._PACKAGE', package)
    assert shipped_root() == root


@pytest.fixture
def modules(monkeypatch):
    """What may be imported is as before when the test has ended."""
    monkeypatch.setattr(sys, 'path', [*sys.path])
    before = {*sys.modules}
    yield
    for name in {*sys.modules} - before:
        del sys.modules[name]


def test_a_config_may_inherit_from_a_shipped_generator(tmp_path, modules):
    from cuts3d_mm.labellers.registry import check_labeller

    path = tmp_path / 'mine.py'
    path.write_text(
        "_base_ = 'cuts3d_mm::pseudo_labels/cuts3d_color-texture_file-depth.py'\n"
        'model = dict(recipe=dict(max_instances=7))\n'
    )
    model = load_generator_config(str(path), [])
    shipped = load_generator_config('cuts3d_color-texture_file-depth', [])
    check_labeller(model)
    recipe = {**shipped.get('recipe', {}), 'max_instances': 7}
    assert model == {**shipped, 'recipe': recipe}


def nearest(load, wrong):
    """Names that the error about a wrong name offers."""
    with pytest.raises(ValueError, match=f'shipped config, got {wrong}; ') as error:
        load(wrong, [])
    assert len(str(error.value)) < 300
    return str(error.value).partition('nearest: ')[2].partition(';')[0].split(', ')


def test_a_wrong_name_is_answered_with_the_nearest_of_its_kind():
    found = nearest(load_generator_config, 'cuts3d_dino-vitb8-zoe')
    assert found[0] == 'cuts3d_dino-vitb8_zoedepth' and len(found) == 3
    assert all(find_config(name).parent.name == 'pseudo_labels' for name in found)
    trainings = nearest(load_config, 'cutler_mask-rcnn_r50')
    assert all(find_config(name).parent.name != 'pseudo_labels' for name in trainings)
    assert nearest(load_config, 'qqqqqqq') == ['']


def test_a_name_of_the_other_kind_is_answered_so():
    training = nearest(load_config, 'cutler_mask-rcnn_r50')[0]
    with pytest.raises(ValueError, match=f'must be a generator, but the shipped {training} is'):
        load_generator_config(training, [])
    with pytest.raises(ValueError, match='must be a training, but the shipped maskcut'):
        load_config('maskcut_color-texture', [])


def test_only_the_folder_of_a_config_of_the_user_is_trusted(tmp_path, modules):
    before = [*sys.path]
    load_generator_config('maskcut_color-texture', [])
    load_generator_config(str(find_config('maskcut_color-texture')), [])
    assert sys.path == before
    (tmp_path / 'mine.py').write_text("model = dict(type='cuts3d_mm.PseudoLabelGenerator')")
    load_generator_config(str(tmp_path / 'mine.py'), [])
    assert sys.path == [*before, str(tmp_path)]  # behind all others


def test_a_file_to_import_must_have_a_name_of_its_own(tmp_path, modules):
    (tmp_path / 'json.py').write_text('')
    with pytest.raises(ImportError, match=r'json\.py must have a name of its own, but json is'):
        load_generator_config('maskcut_color-texture', [], [tmp_path / 'json.py'])


def test_imported_files_join_the_custom_imports_of_a_config(tmp_path, modules):
    for name in ('first_of_mine', 'second_of_mine'):
        (tmp_path / f'{name}.py').write_text('')
    config = tmp_path / 'mine.py'
    config.write_text(
        "custom_imports = dict(imports='first_of_mine', allow_failed_imports=False)\n"
        "model = dict(type='cuts3d_mm.PseudoLabelGenerator')\n"
    )
    found = read_generator_config(str(config), [], [tmp_path / 'second_of_mine.py'])
    assert found.custom_imports.imports == ['first_of_mine', 'second_of_mine']
    assert found.custom_imports.allow_failed_imports is False
