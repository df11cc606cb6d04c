"""mim and MMEngine list every config that trains a detector."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from mmengine.config import Config
from mmengine.config.utils import _get_cfg_metainfo

from cuts3d_mm.configs import shipped_configs
from cuts3d_mm.hub.publishing import METAFILE

ROOT = Path(__file__).parents[2]
INDEX = yaml.safe_load((ROOT / METAFILE).read_text('utf-8'))
MODELS = {model['Name']: model for model in INDEX['Models']}
TRAINED = [path for path in shipped_configs() if 'train_cfg' in Config.fromfile(str(path))]


def test_every_training_config_is_listed_once_and_nothing_else_is():
    listed = sorted(model['Config'] for model in INDEX['Models'])
    assert listed == sorted(f'configs/{path.parent.name}/{path.name}' for path in TRAINED)
    assert yaml.safe_load((ROOT / 'model-index.yml').read_text('utf-8')) == {'Import': [METAFILE]}


@pytest.mark.parametrize('path', TRAINED, ids=lambda path: path.stem)
def test_entry_says_what_its_config_says(path):
    config, metadata = Config.fromfile(str(path)), MODELS[path.stem]['Metadata']
    length = {'Iterations': 'max_iters', 'Epochs': 'max_epochs'}
    for word, key in length.items():
        assert metadata.get(word) == config.train_cfg.get(key)
    assert metadata['Batch Size'] == config.auto_scale_lr.base_batch_size
    assert metadata['Training Data'] in {'COCO', 'ImageNet', 'Rendered scenes'}


def test_collections_name_code_paper_and_training_data():
    for collection in INDEX['Collections']:
        assert collection['Code']['URL'] == 'https://github.com/cuts3d-mm/cuts3d_mm'
        assert collection['Paper']['Title'] and 'arxiv.org/abs/' in collection['Paper']['URL']
        assert collection['Metadata']['Training Data'] == 'ImageNet'
        assert (ROOT / collection['README']).is_file()
    collections = {collection['Name'] for collection in INDEX['Collections']}
    assert {model['In Collection'] for model in INDEX['Models']} == collections


def test_mmengine_finds_the_entry_of_every_config(tmp_path):
    (tmp_path / '.mim').symlink_to(ROOT)
    for path in TRAINED:
        found = _get_cfg_metainfo(str(tmp_path), f'{path.parent.name}/{path.name}')
        assert found['Name'] == path.stem


def test_model_index_of_mim_lists_every_config():
    """What `mim search` reads."""
    modelindex = pytest.importorskip('modelindex')
    index = modelindex.load(str(ROOT / 'model-index.yml'))
    index.check(silent=False)
    assert sorted(model.name for model in index.models) == sorted(path.stem for path in TRAINED)
    assert {collection.name for collection in index.collections} == {'CutLER', 'CutS3D', 'CuVLER'}
