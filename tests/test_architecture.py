"""Imports run one way."""

from __future__ import annotations

import ast
import re
import sys
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / 'cuts3d_mm'
KNOWN_TO_ALL = {'files', 'arrays'}  # plumbing that knows nothing of labels

# part of the package -> parts that it may import, itself included
MAY_IMPORT = {
    'files': {'files', 'processes'},
    'algorithm': {'algorithm'},
    'scenes': {'scenes'},
    'labels': {'labels', 'algorithm', '__version__'},
    'images': {'images', 'labels', 'hub'},
    'visualization': {'visualization', 'images', 'labels', 'algorithm'},
    'hub': {'hub', 'labels'},
    'weights': {'weights', 'hub', 'labels'},
    'hub/publishing': {'hub/publishing', 'hub', 'weights', 'labels', '__version__'},
    'labellers': {
        'labellers',
        'hub',
        'weights',
        'images',
        'visualization',
        'algorithm',
        'configs',
        'registry',
    },
    'pipeline': {
        'pipeline',
        'algorithm',
        'labellers',
        'images',
        'labels',
        'processes',
        '__version__',
    },
    'structures': {'structures', 'algorithm'},
    'datasets': {'datasets', 'structures', 'images', 'labels', 'algorithm', 'registry'},
    'models': {'models', 'labellers', 'structures', 'algorithm', 'registry'},
    'engine': {
        'engine',
        'weights',
        'labellers',
        'pipeline',
        'images',
        'labels',
        'models',
        'datasets',
        'structures',
        'visualization',
        'registry',
    },
    'evaluation': {
        'evaluation',
        'datasets',
        'engine',
        'images',
        'weights',
        'labels',
        'visualization',
        'algorithm',
        'configs',
        'registry',
    },
    'inference': {
        'inference',
        'processes',
        'algorithm',
        'images',
        'labels',
        'labellers',
        'visualization',
        'configs',
    },
    'testing': {'testing', 'algorithm', 'images', 'labels', 'labellers'},
    'integrations': {'integrations', 'api', 'images', 'labels', 'labellers'},
    'app': {
        'algorithm',
        'app',
        'cli',
        'demo',
        'scenes',
        'labellers',
        'inference',
        'images',
        'labels',
        'visualization',
    },
    'learning': {
        'learning',
        'processes',
        'engine',
        'evaluation',
        'hub',
        'hub/publishing',
        'images',
        'labellers',
        'labels',
        'pipeline',
        'visualization',
        'weights',
        'configs',
    },
    'demo': {
        'algorithm',
        'demo',
        'learning',
        'scenes',
        'processes',
        'labellers',
        'pipeline',
        'images',
        'evaluation',
        'labels',
        'visualization',
        'configs',
    },
}
ALGORITHM_LIBRARIES = {'numpy', 'scipy', 'sklearn', 'numba', 'llvmlite', 'torch', 'PIL'}
ALGORITHM_LIBRARIES |= {'pydensecrf'}
CUTTING = ('algorithm', 'images', 'labels', 'labellers', 'pipeline')
WITHOUT_MM = ('algorithm', 'images', 'labels', 'scenes', 'visualization')
SOLVERS = {
    'plotly': 'visualization/figures.py',
    'pydensecrf': 'algorithm/crf.py',
    'ray': 'pipeline/ray.py',
    'transformers': 'labellers/depth/huggingface.py',
    'diffusers': 'labellers/depth/huggingface.py',
    'sklearn': 'algorithm/grouping.py',
    'timm': 'labellers/features/vit.py',
}
PAGES = [f'app/{name}.py' for name in ('cutting_page', 'groups_page', 'labels_page', 'server')]
PYARROW = ['files/remote.py', 'labels/store.py', 'labels/table.py', 'pipeline/identity.py']


def resolve(path: Path, node: ast.ImportFrom) -> str:
    """The module that names are imported from; a relative import stays in its own folder."""
    if node.level == 0:
        return str(node.module)
    assert node.level == 1, f'{path}: relative import of another folder'
    folder = path.parent.relative_to(PACKAGE.parent).parts
    return '.'.join((*folder, *filter(None, [node.module])))


@cache
def imported_names(path: Path) -> list[str]:
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = resolve(path, node)
            names += [f'{module}.{alias.name}' for alias in node.names]
    return names


def part_of(parts: list[str]) -> str:
    """The part that a module belongs to; some folders hold a part of its own."""
    nested = '/'.join(parts[:2]).removesuffix('.py')
    return nested if nested in MAY_IMPORT else parts[0]


def files_of(part: str) -> list[Path]:
    files = sorted(PACKAGE.rglob('*.py'))
    files = [path for path in files if part_of([*path.relative_to(PACKAGE).parts]) == part]
    assert files, f'{part} has no files'
    return files


@pytest.mark.parametrize('part', MAY_IMPORT)
def test_part_imports_only_what_it_may(part):
    for path in files_of(part):
        for name in imported_names(path):
            top, *rest = name.split('.')
            if top == 'cuts3d_mm' and rest:
                assert part_of(rest) in MAY_IMPORT[part] | KNOWN_TO_ALL, f'{path} imports {name}'


@pytest.mark.parametrize('part', WITHOUT_MM)
def test_part_works_without_mm(part):
    for path in files_of(part):
        tops = {name.split('.')[0] for name in imported_names(path)}
        assert not tops & {'mmcv', 'mmdet', 'mmengine', 'mmpretrain'}, path


@pytest.mark.parametrize('part', CUTTING)
def test_cutting_needs_no_registry_of_mmdetection(part):
    """Detectors that label are the one exception."""
    for path in files_of(part):
        if path.relative_to(PACKAGE).as_posix() == 'labellers/detector.py':
            continue
        names = imported_names(path)
        assert not any(name.startswith('cuts3d_mm.registry') for name in names), path
        tops = {name.split('.')[0] for name in names}
        assert not tops & {'mmcv', 'mmdet'}, path


def test_algorithm_imports_arrays_libraries_only():
    for path in files_of('algorithm'):
        tops = {name.split('.')[0] for name in imported_names(path)} - set(sys.stdlib_module_names)
        assert tops <= ALGORITHM_LIBRARIES | {'cuts3d_mm'}, path


def users_of(library: str) -> list[str]:
    return sorted(
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob('*.py')
        if any(name.split('.')[0] == library for name in imported_names(path))
    )


@pytest.mark.parametrize('library', SOLVERS)
def test_library_is_known_to_one_file(library):
    assert users_of(library) == [SOLVERS[library]]


def test_pages_alone_know_gradio():
    assert users_of('gradio') == PAGES


KERNELS = 'algorithm/kernels'
COMPILED = [Path(path).stem for path in users_of('numba') if path.startswith(KERNELS)]


def test_kernels_alone_know_numba():
    users = {*users_of('numba'), *users_of('llvmlite')}
    assert users == {f'{KERNELS}/{name}.py' for name in COMPILED}


@pytest.mark.parametrize('kernel', COMPILED)
def test_kernel_is_called_from_one_file_that_brings_plain_code(kernel):
    pattern = re.compile(rf"Kernel\(\s*'{kernel}\.")
    assert sum(bool(pattern.search(path.read_text())) for path in PACKAGE.rglob('*.py')) == 1
    module = f'cuts3d_mm.algorithm.kernels.{kernel}'
    for path in PACKAGE.rglob('*.py'):
        assert not any(name.startswith(module) for name in imported_names(path)), path


def test_the_file_format_is_known_to_the_files_that_read_it():
    assert users_of('pyarrow') == PYARROW


def test_types_of_arrays_have_their_names_in_one_file():
    aliases = re.findall(r'^(\w+) = NDArray', (PACKAGE / 'arrays.py').read_text(), re.MULTILINE)
    pattern = re.compile(rf'^({"|".join(aliases)}) = NDArray', re.MULTILINE)
    found = [path.name for path in PACKAGE.rglob('*.py') if pattern.search(path.read_text())]
    assert found == ['arrays.py']


def test_nothing_imports_tools():
    for path in PACKAGE.rglob('*.py'):
        assert not any(name.split('.')[0] == 'tools' for name in imported_names(path)), path


def test_every_config_has_a_name_of_its_own():
    names = [path.name for path in (PACKAGE.parent / 'configs').rglob('*.py')]
    assert len(names) == len(set(names))
