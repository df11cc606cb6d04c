from __future__ import annotations

import numpy as np
import pytest
from loopback_hub import Fault, Repository

from cuts3d_mm.hub.client import HubError, HubFile, HubRepository, download_repository, fetch_file

REPO = HubRepository('someone/detector')
WEIGHTS = HubFile(REPO, 'model.safetensors')


@pytest.fixture
def content(hub):
    """A repository of two commits; the content of the last."""
    repository = hub.repositories['models', REPO.repo_id] = Repository(private=False)
    old = np.random.default_rng(1).bytes(200_000)
    repository.commit({'model.safetensors': old, 'config.py': b'a = 1\n'})
    new = np.random.default_rng(2).bytes(30_000_000)
    repository.commit({'model.safetensors': new})
    return {'model.safetensors': new, 'config.py': b'a = 1\n', 'old': old}


def gets(hub):
    return [request for request in hub.requests if request[0] == 'GET' and 'resolve' in request[1]]


def test_a_file_is_downloaded_once(hub, content):
    for _ in range(2):
        assert fetch_file(WEIGHTS).read_bytes() == content['model.safetensors']
    assert len(gets(hub)) == 1


def test_a_revision_is_pinned_by_its_commit(hub, content):
    first = hub.repositories['models', REPO.repo_id].commits[0][0]
    pinned = HubFile(HubRepository(REPO.repo_id, first), 'model.safetensors')
    assert fetch_file(pinned).read_bytes() == content['old']


def test_a_download_that_is_cut_goes_on_where_it_was(hub, content):
    hub.faults = [Fault('GET', 'model.safetensors')]
    assert fetch_file(WEIGHTS).read_bytes() == content['model.safetensors']
    ranges = [headers.get('Range') for _, _, headers in gets(hub)]
    assert len(ranges) == 2 and ranges[0] is None
    assert int(ranges[1].removeprefix('bytes=').removesuffix('-')) > 1_000_000


@pytest.mark.parametrize('method', ['HEAD', 'GET'])
@pytest.mark.parametrize('status', [429, 500, 503])
def test_answers_that_pass_are_asked_again(hub, content, method, status):
    hub.faults = [Fault(method, 'model.safetensors', status, 2, {'Retry-After': '0'})]
    assert fetch_file(WEIGHTS).read_bytes() == content['model.safetensors']


def test_an_outage_is_one_line(hub, content):
    hub.faults = [Fault('HEAD', 'model.safetensors', 503, 99)]
    with pytest.raises(HubError, match='the Hub answered 503') as error:
        fetch_file(WEIGHTS)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    ('file', 'message'),
    [
        (HubFile(REPO, 'other.pth'), 'no such file in the repository'),
        (HubFile(HubRepository('no/body'), 'model.pth'), 'no such repository, or you may not'),
        (HubFile(HubRepository(REPO.repo_id, 'v9'), 'config.py'), 'no such revision'),
    ],
)
def test_what_is_not_there_is_told_at_once(hub, content, file, message):
    with pytest.raises(HubError, match=message):
        fetch_file(file)
    assert len(hub.requests) <= 2


def test_private_repositories_need_the_token(hub, content, monkeypatch):
    hub.repositories['models', REPO.repo_id].private = True
    assert fetch_file(HubFile(REPO, 'config.py')).read_bytes() == b'a = 1\n'
    monkeypatch.delenv('HF_TOKEN')
    with pytest.raises(HubError, match='log in by'):
        fetch_file(WEIGHTS)


def test_the_cache_answers_without_a_connection(hub, content, monkeypatch):
    fetch_file(WEIGHTS)
    num_requests = len(hub.requests)
    with monkeypatch.context() as offline:
        offline.setattr('huggingface_hub.constants.HF_HUB_OFFLINE', True)
        assert fetch_file(WEIGHTS).read_bytes() == content['model.safetensors']
        with pytest.raises(HubError, match='HF_HUB_OFFLINE is set'):
            fetch_file(HubFile(REPO, 'config.py'))
    assert len(hub.requests) == num_requests


@pytest.mark.parametrize('name', ['model.safetensors', 'config.py'])
def test_a_file_damaged_in_the_cache_is_refused_removed_and_then_fetched_again(hub, content, name):
    file = HubFile(REPO, name)
    blob = fetch_file(file).resolve()
    blob.write_bytes(b'x' + blob.read_bytes()[1:])
    with pytest.raises(HubError, match='did not have the hash that the Hub states'):
        fetch_file(file)
    assert fetch_file(file).read_bytes() == content[name]


@pytest.mark.parametrize(
    'answer',
    [b'', b'<html>', b'[]', b'null', b'{"id"', b'{"siblings": 5}', b'{"siblings": [5]}', b'\xff',
     b'{"id": "a/b", "siblings": [{"rfilename": 5}]}', b'[' * 100_000],
)  # fmt: skip
def test_answers_that_are_no_json_of_a_hub_are_one_line(hub, content, tmp_path, answer):
    hub.faults = [Fault('GET', '/api/models', 200, 99, body=answer)]
    with pytest.raises(HubError, match='the answer is not from a Hub|holds no files') as error:
        download_repository(REPO, tmp_path / 'copy')
    assert '\n' not in str(error.value) and REPO.repo_id in str(error.value)


def test_a_repository_is_copied_whole(hub, content, tmp_path):
    paths = download_repository(REPO, tmp_path / 'copy')
    assert {path.name for path in paths} == {'model.safetensors', 'config.py'}
    assert all(path.read_bytes() == content[path.name] for path in paths)
    assert not any(path.is_symlink() for path in paths)


@pytest.mark.parametrize(
    'name', ['../outside.py', '/etc/outside.py', 'a/../../b', 'C:\\x', '..\\x']
)
def test_names_that_lead_out_of_the_folder_are_refused(hub, content, tmp_path, name):
    hub.repositories['models', REPO.repo_id].commit({name: b'harm'})
    with pytest.raises(ValueError, match='must stay inside its folder'):
        download_repository(REPO, tmp_path / 'copy')
    assert not (tmp_path / 'copy').exists()
    with pytest.raises(ValueError):
        HubFile.parse(f'hf://someone/detector/{name}')
