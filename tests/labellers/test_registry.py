from __future__ import annotations

import pytest

from cuts3d_mm.labellers.registry import (
    DEPTH,
    FEATURES,
    LABELLERS,
    build_labeller,
    check_labeller,
    with_depth_folder,
)


class Scanner:
    """A depth source that reads a folder under a name of its own."""

    FOLDER_ARGUMENT = 'scans'


@pytest.fixture
def scanner():
    DEPTH.register_module(module=Scanner, name='Scanner')
    yield {'type': 'cuts3d_mm.Scanner', 'scans': 'x', 'unit': 'mm'}
    DEPTH.module_dict.pop('Scanner')


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ('a', 'b', 'elsewhere', 'maps'):
        (tmp_path / name).mkdir()


def depth_with(depth, folder):
    model = {'type': 'cuts3d_mm.PseudoLabelGenerator', 'depth': depth}
    return with_depth_folder(model, folder)['depth']


def test_a_depth_source_that_takes_a_folder_keeps_its_other_options(scanner):
    assert depth_with(scanner, 'elsewhere') == {**scanner, 'scans': 'elsewhere'}
    near = {'type': 'cuts3d_mm.DepthFromFile', 'root': 'a', 'larger_is': 'near'}
    assert depth_with(near, 'b') == {**near, 'root': 'b'}


@pytest.mark.parametrize('depth', [None, {'type': 'cuts3d_mm.HFDepth', 'model': 'x'}])
def test_any_other_depth_source_makes_way_for_the_folder(depth):
    expected = {'type': 'cuts3d_mm.DepthFromFile', 'root': 'maps'}
    assert depth_with(depth, 'maps') == expected
    assert depth_with(depth, None) == depth


def test_a_config_that_leaves_something_out_is_a_user_error():
    with pytest.raises(ValueError, match='must be given features'):
        build_labeller({'type': 'cuts3d_mm.PseudoLabelGenerator'})


@pytest.mark.parametrize('folder', [None, 'nowhere'])
def test_a_folder_of_depth_maps_that_does_not_exist_is_refused(folder):
    depth = {'type': 'cuts3d_mm.DepthFromFile', 'root': 'nowhere'}
    with pytest.raises(ValueError, match='depth folder must exist, got nowhere; .* --depth DIR'):
        depth_with(depth, folder)


def test_a_recipe_in_2d_needs_no_folder_of_depth_maps():
    depth = {'type': 'cuts3d_mm.DepthFromFile', 'root': 'nowhere'}
    model = {'depth': depth, 'recipe': {'preset': 'maskcut'}}
    assert with_depth_folder(model, None) == model


def test_every_class_of_the_folder_is_found_by_its_name():
    names = [(one, name) for one in (FEATURES, DEPTH, LABELLERS) for name in one.modules]
    assert len(names) >= 7
    for registry, name in names:
        assert registry.get(f'cuts3d_mm.{name}').__name__ == name


class Given:
    """A feature source of another package."""

    def __init__(self, size):
        self.size = size


def test_arguments_of_a_class_of_another_package_are_checked_too():
    features = {'type': f'{__name__}.Given', 'sizes': 3}
    model = {'type': 'PseudoLabelGenerator', 'features': features, 'recipe': {'preset': 'maskcut'}}
    with pytest.raises(ValueError, match='Given has no argument sizes; it has size'):
        check_labeller(model)
    check_labeller({**model, 'features': {'type': Given, 'size': 3}})


def test_the_recipe_is_checked_before_any_feature_source_is_imported():
    model = {'type': 'PseudoLabelGenerator', 'features': {'type': 'nowhere.Given'}}
    with pytest.raises(ValueError, match='recipe.colour is not a parameter'):
        check_labeller({**model, 'recipe': {'colour': 3}})


@pytest.mark.parametrize(
    ('kind', 'cause'),
    [
        ('nowhere.Given', "No module named 'nowhere'"),
        (f'{__name__}.Taken', 'test_registry.py has no class Taken'),
        ('Taken', "got 'Taken'; a file"),
    ],
)
def test_a_class_that_is_not_found_is_an_error_with_cause_and_remedy(kind, cause):
    with pytest.raises(ValueError, match='in the folder of CONFIG') as error:
        FEATURES.check({'type': kind})
    assert cause in str(error.value) and '--import FILE.py' in str(error.value)
    assert 'ColorTextureFeatures, TimmFeatures, ViTKeyFeatures' in str(error.value)
