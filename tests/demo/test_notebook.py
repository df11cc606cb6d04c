"""The notebook for first-time users runs, offline, as it is shown."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from helpers.drawn import iou

import cuts3d_mm
from cuts3d_mm.scenes.rendering import render_scenes

NOTEBOOK = Path(__file__).parents[2] / 'demo/first_steps.ipynb'


@pytest.mark.slow
def test_every_cell_of_the_notebook_runs(tmp_path):
    """With CUTS3D_DOCS set, the outputs are kept in the notebook."""
    nbclient = pytest.importorskip('nbclient')
    nbformat = pytest.importorskip('nbformat')
    pytest.importorskip('ipykernel')
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, kernel_name='python3').execute()
    pictures = [
        output
        for cell in notebook.cells
        for output in cell.get('outputs', ())
        if 'image/png' in output.get('data', {})
    ]
    assert len(pictures) == 3
    if 'CUTS3D_DOCS' in os.environ:
        nbformat.write(_without_noise(notebook), NOTEBOOK)


def test_the_balls_of_notebook_and_app_are_parted_in_3d_and_one_mask_in_2d():
    scene = render_scenes(1, seed=3)[0]

    def best_ious(config, **inputs):
        found = cuts3d_mm.load_generator(config).predict(scene.image, **inputs)
        return [max(iou(one.mask, ball) for one in found) for ball in scene.masks]

    assert min(best_ious('cuts3d_color-texture_file-depth', depth=scene.depth)) > 0.8
    assert max(best_ious('maskcut_color-texture')) < 0.7


def _without_noise(notebook):
    """Drop messages of libraries, times of execution, and the versions of this machine."""
    for cell in notebook.cells:
        cell.metadata.pop('execution', None)
        if 'outputs' in cell:
            cell.outputs = [one for one in cell.outputs if not _is_noise(one)]
    notebook.metadata.pop('language_info', None)
    return notebook


def _is_noise(output):
    return output.get('name') == 'stderr' or 'Could not import' in output.get('text', '')
