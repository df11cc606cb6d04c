from __future__ import annotations

import numpy as np
import pytest
from loopback_hub import TOKEN, Fault

from cuts3d_mm.hub.client import HubError
from cuts3d_mm.hub.publishing import upload_files

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


@pytest.mark.parametrize('where', ['preupload', 'lfs', 'commit', 'paths-info', 'repos/create'])
@pytest.mark.parametrize('status', [429, 503])
def test_answers_that_pass_are_asked_again(hub, files, where, status):
    method = 'PUT' if where == 'lfs' else 'POST'
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
