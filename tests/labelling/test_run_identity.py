from __future__ import annotations

import json
from pathlib import Path

import pytest

from cuts3d_mm.labelling.images import ImageList
from cuts3d_mm.labelling.run_identity import RunIdentity, RunMismatch

IMAGES = ImageList(Path('x'), ('a.jpg', 'b.jpg'))


def identity(names=IMAGES.names, **model):
    return RunIdentity.of({'recipe': {'tau': 1}} | model, ImageList(Path('x'), names), 8)


def test_same_run_may_continue(tmp_path):
    identity().claim(tmp_path)
    identity().claim(tmp_path)


def test_images_may_move_to_another_folder(tmp_path):
    identity().claim(tmp_path)
    RunIdentity.of({'recipe': {'tau': 1}}, ImageList(Path('y'), IMAGES.names), 8).claim(tmp_path)


def test_other_config_is_refused_naming_the_key(tmp_path):
    identity().claim(tmp_path)
    with pytest.raises(RunMismatch, match=r'differing: model.recipe.tau: 1 -> 2\. Choose'):
        identity(recipe={'tau': 2}).claim(tmp_path)


def test_other_images_are_refused(tmp_path):
    identity().claim(tmp_path)
    with pytest.raises(RunMismatch, match='num_images: 2 -> 1'):
        identity(names=('a.jpg',)).claim(tmp_path)


def test_labels_without_a_run_are_refused(tmp_path):
    (tmp_path / 'labels-000000.parquet').touch()
    with pytest.raises(RunMismatch, match='must have a run.json'):
        identity().claim(tmp_path)


def test_foreign_run_file_is_refused(tmp_path):
    (tmp_path / 'run.json').write_text('{}')
    with pytest.raises(RunMismatch, match='must be a run.json of cuts3d generate'):
        identity().claim(tmp_path)


def test_counts_and_versions_are_kept(tmp_path):
    identity().record_counts(tmp_path, {'images': 2})
    content = json.loads((tmp_path / 'run.json').read_text())
    assert content['counts'] == {'images': 2} and 'torch' in content['versions']
