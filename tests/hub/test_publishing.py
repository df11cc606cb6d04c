from __future__ import annotations

import runpy
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import yaml
from helpers.servers import TOKEN, Fault

from cuts3d_mm.configs import find_config, load_config
from cuts3d_mm.hub.client import HubError
from cuts3d_mm.hub.publishing import METAFILE, describe_training, upload_files, zoo_entry

CUTS3D = 'cuts3d_cascade-mask-rcnn_r50_fpn_8xb2-amp-'
PSEUDO = 'Trained on pseudo-labels (`PseudoLabelDataset`): masks that a program has found.'
DINO = 'https://dl.fbaipublicfiles.com/dino/dino_resnet50_pretrain/dino_resnet50_pretrain.pth'


def facts(name, options=(), **meta):
    return describe_training(load_config(name, list(options)).to_dict(), meta)


def test_initial_round_names_labels_iterations_and_first_weights():
    assert facts(f'{CUTS3D}160k_imagenet', iter=160000) == [
        PSEUDO,
        '160,000 iterations.',
        f'Its backbone started from `{DINO}`.',
    ]


def test_a_selection_of_the_labels_is_named():
    select = 'train_dataloader.dataset.dataset.filter_cfg.select=50%'
    assert "select='50%'" in facts(f'{CUTS3D}160k_imagenet', [select])[1]


def test_only_rounds_that_were_reached_are_named():
    rounds = facts(f'{CUTS3D}400k_rounds', iter=300000)[2]
    assert rounds.startswith('After iteration 160,000, 240,000 it labelled its images itself')
    assert not any('labelled' in fact for fact in facts(f'{CUTS3D}400k_rounds', iter=160000))


def test_rounds_of_the_hook_are_named_as_those_of_the_loop():
    hook = {'type': 'cuts3d_mm.SelfTrainingHook', 'rounds': [{'begin': 1000}, {'begin': 3000}]}
    found = describe_training({'custom_hooks': [{'type': 'EMAHook'}, hook]}, {'iter': 2000})
    assert found[1].startswith('After iteration 1,000 it labelled its images itself')


def test_fine_tuning_on_annotations_is_no_training_on_pseudo_labels():
    options = ['load_from=/home/me/zero_shot.pth']
    found = facts('cutler_cascade-mask-rcnn_r50_fpn_8xb2_coco-semi', options, iter=9000)
    assert found[0] == 'Trained on annotations that `CocoDataset` read.'
    assert found[-1] == 'It started from the weights of another detector.'
    assert '/home' not in ' '.join(found)


@pytest.mark.parametrize('model', [None, {}, {'backbone': {'init_cfg': None}}])
def test_what_is_not_in_the_files_is_not_described(model):
    assert describe_training({'model': model}, {}) == []


def test_local_folder_of_the_first_weights_is_not_named():
    config = {'model': {'backbone': {'init_cfg': {'checkpoint': '/home/me/mine.pth'}}}}
    assert describe_training(config, {}) == ['Its backbone started from `mine.pth`.']


def test_every_joined_data_set_is_named():
    parts = [{'type': 'CocoDataset'}, {'type': 'cuts3d_mm.PseudoLabelDataset'}]
    config = {'train_dataloader': {'dataset': {'type': 'ConcatDataset', 'datasets': parts}}}
    expected = 'Trained on annotations that `CocoDataset` and `PseudoLabelDataset` read.'
    assert describe_training(config, {}) == [expected]


def test_facts_of_a_release_are_those_that_it_records():
    assert describe_training({'load_from': 'x.pth'}, {'training': [PSEUDO]}) == [PSEUDO]


REPO = 'someone/detector'


@pytest.fixture
def files(tmp_path):
    weights = np.random.default_rng(0).bytes(300_000)
    (tmp_path / 'model.safetensors').write_bytes(weights)
    (tmp_path / 'config.py').write_text('a = 1\n')
    (tmp_path / 'README.md').write_text('---\nlicense: mit\n---\n')
    return {name: tmp_path / name for name in ('model.safetensors', 'config.py', 'README.md')}


def commits(hub):
    return hub.repositories['models', REPO].commits


def test_large_and_small_files_arrive_in_one_commit(hub, files):
    done = upload_files(files, REPO)
    assert set(done.uploaded) == set(files) and done.unchanged == ()
    assert len(commits(hub)) == 1 and done.revision == commits(hub)[0][0]
    assert commits(hub)[0][1] == {name: path.read_bytes() for name, path in files.items()}
    assert done.url == f'{hub.url}/{REPO}'


def test_publishing_again_changes_nothing(hub, files):
    first = upload_files(files, REPO)
    again = upload_files(files, REPO)
    assert again.uploaded == () and again.revision == first.revision and len(commits(hub)) == 1


def test_only_what_changed_is_uploaded(hub, files):
    upload_files(files, REPO)
    files['config.py'].write_text('a = 2\n')
    done = upload_files(files, REPO)
    assert done.uploaded == ('config.py',)
    assert done.unchanged == ('README.md', 'model.safetensors')


@pytest.mark.parametrize(
    'where', ['preupload', 'lfs', 'commit', 'api/models/someone', 'repos/create']
)
@pytest.mark.parametrize('status', [429, 503])
def test_answers_that_pass_are_asked_again(hub, files, where, status):
    method = {'lfs': 'PUT', 'api/models/someone': 'GET'}.get(where, 'POST')
    hub.faults = [Fault(method, where, status, times=2)]
    upload_files(files, REPO)
    assert not hub.faults[0].times and len(commits(hub)) == 1


@pytest.mark.slow
def test_an_outage_ends_after_five_attempts_in_one_line(hub, files):
    hub.faults = [Fault('POST', 'commit', 500, times=99)]
    with pytest.raises(HubError, match=r'^someone/detector: the Hub answered 500') as error:
        upload_files(files, REPO)
    assert hub.faults[0].times == 99 - 5 and '\n' not in str(error.value)


def test_a_wrong_token_is_told_with_the_remedy_and_never_shown(hub, files, monkeypatch, capfd):
    monkeypatch.setenv('HF_TOKEN', 'hf_wrong')
    with pytest.raises(HubError, match='log in by `hf auth login` or HF_TOKEN') as error:
        upload_files(files, REPO)
    shown = ''.join(capfd.readouterr()) + str(error.value)
    assert 'hf_wrong' not in shown and TOKEN not in shown


def test_what_arrives_damaged_is_noticed(hub, files, monkeypatch):
    stored = type(hub.large)
    damaged = type('Damaged', (stored,), {'__getitem__': lambda self, key: b'other bytes'})
    hub.large = damaged()
    with pytest.raises(HubError, match='does not hold what was sent: model.safetensors'):
        upload_files(files, REPO)


def test_private_repositories_are_made_private(hub, files):
    upload_files(files, REPO, is_private=True)
    assert hub.repositories['models', REPO].private


def test_datasets_have_a_place_of_their_own(hub, files):
    upload_files(files, f'{REPO}-labels', 'dataset')
    assert ('datasets', f'{REPO}-labels') in hub.repositories


ROOT = Path(__file__).parents[2]
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


def test_entry_adds_scores_and_weights_to_the_one_of_the_metafile():
    models = yaml.safe_load((ROOT / METAFILE).read_text('utf-8'))['Models']
    (listed,) = [model for model in models if model['Name'] == NAME]
    scores = {'coco: val': {'mask AP50': 0.12345}}
    (entry,) = yaml.safe_load(zoo_entry(ROOT, find_config(NAME), URL, scores))
    (results,) = entry.pop('Results')
    assert (results['Dataset'], results['Metrics']) == ('coco: val', {'mask AP50': 12.35})
    assert entry == {**listed, 'Weights': URL}


def test_weights_of_listed_models_are_addresses():
    """mim reads them unchecked."""
    for model in yaml.safe_load((ROOT / METAFILE).read_text('utf-8'))['Models']:
        assert model.get('Weights', URL).startswith('https://')


def test_publish_prints_the_entry_of_a_config_of_the_zoo(print_entry):
    out = print_entry(NAME)
    assert METAFILE in out and out.endswith(f'    Weights: {URL}\n')


def test_publish_prints_no_entry_for_a_config_of_another_project(print_entry, tmp_path):
    (tmp_path / 'mine.py').touch()
    assert print_entry(tmp_path / 'mine.py') == ''
    assert print_entry(tmp_path, checkpoint=None) == ''
