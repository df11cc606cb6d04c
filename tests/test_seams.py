"""Adding a feature extractor, a depth source, an evaluation set or a command is one file."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.drawn import write_images

from cuts3d_mm.labels.store import read_store

ROOT = Path(__file__).parents[1]
SOURCES = """
import cv2
import numpy as np

from cuts3d_mm.labellers.registry import DEPTH, FEATURES


@FEATURES.register_module()
class MeanColor:
    def __init__(self, patch_size=8):
        self.patch_size = patch_size

    def to(self, device):
        return self

    def __call__(self, images):
        size = self.patch_size
        grids = [(image.shape[1] // size, image.shape[0] // size) for image in images]
        pairs = zip(images, grids, strict=True)
        return [cv2.resize(i.astype(np.float32) / 255 - 0.5, grid) for i, grid in pairs]


@DEPTH.register_module()
class Brightness:
    def to(self, device):
        return self

    def __call__(self, images):
        return [image.pixels.mean(axis=2).astype(np.float32) for image in images]
"""
EVALUATION_SET = """EVALUATION_SETS = {
    'number-plates': EvaluationSet(
        'Plates', partial(_open_coco, 'all.json', 'the annotations', ''), 'all.json', None
    ),
"""
COMMAND = '''
"""Greet somebody.

Examples:
    cuts3d greet
"""

from cuts3d_mm.cli import make_parser
from cuts3d_mm.cli import run_command


def main():
    make_parser(__doc__).parse_args()
    print('hello')


if __name__ == '__main__':
    run_command(main)
'''


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
    """A checkout of our own, to add files to, with what is compiled already."""
    root = tmp_path_factory.mktemp('tree')
    for name in ('cuts3d_mm', 'configs', 'tools'):
        shutil.copytree(ROOT / name, root / name, symlinks=True)  # those of an editable install
    return root


def cuts3d(folder, *arguments, paths=None):
    """Run a command; its modules are found in a folder before everything else, or in `paths`."""
    path = os.pathsep.join(map(str, [folder, ROOT] if paths is None else paths))
    command = [sys.executable, '-P', '-m', 'cuts3d_mm', *map(str, arguments)]
    environment = {**os.environ, 'PYTHONPATH': path}
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stdout


def label(folder, config, rng, workers=0, options=(), paths=None, file='mine.py'):
    """Label ten images by a config, in processes of their own if there are workers."""
    write_images(folder / 'images', 10, rng)
    (folder / file).write_text(config)
    arguments = ('generate', file, 'images', 'out', '--workers', workers, *options)
    cuts3d(folder, *arguments, paths=paths)
    records = list(read_store(folder / 'out'))
    assert len(records) == 10 and not any(record.failure for record in records)
    assert any(record.instances for record in records)


MODEL = """
model = dict(
    type='cuts3d_mm.PseudoLabelGenerator',
    features=dict(type='{0}MeanColor'),
    depth=dict(type='{0}Brightness'),
    input_hw=(96, 128),
)
"""


@pytest.mark.slow
def test_feature_and_depth_sources_are_files_of_their_folders(tree, rng):
    features, depth = SOURCES.split('@DEPTH')
    head = features.split('@FEATURES')[0]
    (tree / 'cuts3d_mm/labellers/features/mean_color.py').write_text(features)
    (tree / 'cuts3d_mm/labellers/depth/brightness.py').write_text(f'{head}@DEPTH{depth}')
    label(tree, MODEL.format('cuts3d_mm.'), rng)


@pytest.mark.slow
@pytest.mark.parametrize(
    ('imports', 'scope'),
    [("custom_imports = dict(imports=['stranger'])\n", ''), ('', 'stranger.')],
    ids=['custom_imports', 'full name'],
)
def test_sources_of_another_package_label_in_processes_of_their_own(tmp_path, rng, imports, scope):
    (tmp_path / 'stranger.py').write_text(SOURCES)
    label(tmp_path, imports + MODEL.format(scope), rng, workers=1)
    assert f'"type": "{scope}MeanColor"' in (tmp_path / 'out/run.json').read_text()


@pytest.mark.slow
def test_sources_in_the_folder_of_a_config_label_in_processes_of_their_own(tmp_path, rng):
    (tmp_path / 'configs').mkdir()
    (tmp_path / 'configs/stranger.py').write_text(SOURCES)
    model = MODEL.format('stranger.')
    label(tmp_path, model, rng, workers=1, paths=[ROOT], file='configs/mine.py')


@pytest.mark.slow
def test_classes_in_the_file_of_a_config_are_named_by_it(tmp_path, rng):
    classes = SOURCES.replace('@FEATURES.register_module()', '').replace(
        '@DEPTH.register_module()', ''
    )
    named = MODEL.format('my-own.').replace("'my-own.MeanColor'", 'MeanColor')
    label(tmp_path, classes + named, rng, workers=1, paths=[ROOT], file='my-own.py')
    run = (tmp_path / 'out/run.json').read_text()
    assert '"type": "my-own.MeanColor"' in run and '"type": "my-own.Brightness"' in run


@pytest.mark.slow
def test_a_file_that_is_imported_registers_sources_in_every_process(tmp_path, rng):
    (tmp_path / 'elsewhere').mkdir()
    file = tmp_path / 'elsewhere/stranger.py'
    file.write_text(SOURCES)
    label(tmp_path, MODEL.format(''), rng, 2, ['--import', file], paths=[ROOT])


@pytest.mark.slow
def test_an_evaluation_set_is_an_entry_of_the_table(tree, tmp_path, rng):
    path = tree / 'cuts3d_mm/evaluation/datasets.py'
    path.write_text(path.read_text().replace('EVALUATION_SETS = {\n', EVALUATION_SET))
    names = write_images(tmp_path, 1, rng)
    image = f'{{"id": 1, "file_name": "{names[0]}", "height": 60, "width": 88}}'
    box = '{"id": 1, "image_id": 1, "category_id": 1, "bbox": [2, 3, 20, 30], "area": 600}'
    (tmp_path / 'all.json').write_text(f'{{"images": [{image}], "annotations": [{box}]}}')
    assert 'number-plates' in cuts3d(tree, 'prepare', '--help')
    out = cuts3d(tree, 'prepare', 'number-plates', tmp_path, tmp_path / 'out')
    assert out.startswith('1 images, 1 objects')
    assert (tmp_path / 'out/number-plates.json').is_file()


def test_a_command_is_a_file(tree):
    (tree / 'tools/say_hello.py').write_text(COMMAND)
    assert 'say-hello       Greet somebody.' in cuts3d(tree, '--help')
    assert 'usage: cuts3d say-hello' in cuts3d(tree, 'say-hello', '--help')
    assert cuts3d(tree, 'say-hello') == 'hello\n'
