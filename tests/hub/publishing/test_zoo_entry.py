"""The list of published detectors takes one by the entry that `cuts3d publish` prints."""

from __future__ import annotations

import runpy
from argparse import Namespace
from pathlib import Path

import pytest
import yaml

from cuts3d_mm.configs import find_config
from cuts3d_mm.hub.publishing import METAFILE, zoo_entry

ROOT = Path(__file__).parents[3]
NAME = 'cuts3d_cascade-mask-rcnn_r50_fpn_8xb2-amp-160k_imagenet'
URL = 'https://huggingface.co/someone/cuts3d/resolve/0123abcd/model.pth'


@pytest.fixture
def print_entry(capsys):
    def run(config, checkpoint='iter_1.pth'):
        args = Namespace(config=str(config), checkpoint=checkpoint, metrics=None)
        publish['print_zoo_entry'](args, URL.rpartition('/')[0])
        return capsys.readouterr().out

    publish = runpy.run_path(str(ROOT / 'tools/publish.py'))
    return run


def test_metafile_with_the_entry_lists_config_scores_and_weights():
    entry = zoo_entry(find_config(NAME), URL, {'coco: val': {'mask AP50': 0.12345}})
    index = yaml.safe_load((ROOT / METAFILE).read_text('utf-8') + entry)
    model = index['Models'][-1]
    assert (model['Name'], model['Weights']) == (NAME, URL)
    assert (ROOT / model['Config']).is_file()
    assert model['Results'][0]['Dataset'] == 'coco: val'
    assert model['Results'][0]['Metrics'] == {'mask AP50': 12.35}
    assert model['In Collection'] in {one['Name'] for one in index['Collections']}


def test_only_models_with_weights_are_listed():
    """mim reads `Weights` of every listed model unchecked."""
    (metafile,) = yaml.safe_load((ROOT / 'model-index.yml').read_text('utf-8'))['Import']
    assert metafile == METAFILE
    for model in yaml.safe_load((ROOT / metafile).read_text('utf-8'))['Models'] or []:
        assert model['Weights'].startswith('https://') and (ROOT / model['Config']).is_file()


def test_publish_prints_the_entry_of_a_config_of_the_zoo(print_entry):
    out = print_entry(NAME)
    assert METAFILE in out and out.endswith(f'    Weights: {URL}\n')


def test_publish_prints_no_entry_for_a_config_of_another_project(print_entry, tmp_path):
    (tmp_path / 'mine.py').touch()
    assert print_entry(tmp_path / 'mine.py') == ''
    assert print_entry(tmp_path, checkpoint=None) == ''
