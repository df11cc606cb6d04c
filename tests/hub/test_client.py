from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest
import torch
from helpers.servers import Fault, Repository

from cuts3d_mm.hub import client
from cuts3d_mm.hub.client import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    HubError,
    HubRepository,
    download_repository,
    fetch_file,
    find_release,
)

REPO = HubRepository('someone/detector')
WEIGHTS = REPO, 'model.safetensors'


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
        assert fetch_file(*WEIGHTS).read_bytes() == content['model.safetensors']
    assert len(gets(hub)) == 1


def test_a_revision_is_pinned_by_its_commit(hub, content):
    first = hub.repositories['models', REPO.repo_id].commits[0][0]
    pinned = HubRepository(REPO.repo_id, first)
    assert fetch_file(pinned, 'model.safetensors').read_bytes() == content['old']


def test_a_download_that_is_cut_goes_on_where_it_was(hub, content):
    hub.faults = [Fault('GET', 'model.safetensors')]
    assert fetch_file(*WEIGHTS).read_bytes() == content['model.safetensors']
    ranges = [headers.get('Range') for _, _, headers in gets(hub)]
    assert len(ranges) == 2 and ranges[0] is None
    assert int(ranges[1].removeprefix('bytes=').removesuffix('-')) > 1_000_000


@pytest.mark.parametrize('method', ['HEAD', 'GET'])
@pytest.mark.parametrize('status', [429, 500, 503])
def test_answers_that_pass_are_asked_again(hub, content, method, status):
    hub.faults = [Fault(method, 'model.safetensors', status, 2, {'Retry-After': '0'})]
    assert fetch_file(*WEIGHTS).read_bytes() == content['model.safetensors']


def test_a_pause_that_is_no_number_is_not_taken(hub, content):
    hub.faults = [Fault('HEAD', 'model.safetensors', 429, 1, {'Retry-After': '\xb2'})]
    with suppress(HubError):  # of a client of 1.0 or later, which reads it, too
        assert fetch_file(*WEIGHTS).read_bytes() == content['model.safetensors']


def test_an_outage_is_one_line(hub, content):
    hub.faults = [Fault('HEAD', 'model.safetensors', 503, 99)]
    with pytest.raises(HubError, match='the Hub answered 503') as error:
        fetch_file(*WEIGHTS)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    ('file', 'message'),
    [
        ((REPO, 'other.pth'), 'no such file in the repository'),
        ((HubRepository('no/body'), 'model.pth'), 'no such repository, or you may not'),
        ((HubRepository(REPO.repo_id, 'v9'), 'config.py'), 'no such revision'),
    ],
)
def test_what_is_not_there_is_told_at_once(hub, content, file, message):
    with pytest.raises(HubError, match=message):
        fetch_file(*file)
    assert len(hub.requests) <= 2


def test_private_repositories_need_the_token(hub, content, monkeypatch):
    hub.repositories['models', REPO.repo_id].private = True
    assert fetch_file(REPO, 'config.py').read_bytes() == b'a = 1\n'
    monkeypatch.delenv('HF_TOKEN')
    with pytest.raises(HubError, match='log in by'):
        fetch_file(*WEIGHTS)


def test_the_cache_answers_without_a_connection(hub, content, monkeypatch):
    fetch_file(*WEIGHTS)
    num_requests = len(hub.requests)
    with monkeypatch.context() as offline:
        offline.setattr('huggingface_hub.constants.HF_HUB_OFFLINE', True)
        assert fetch_file(*WEIGHTS).read_bytes() == content['model.safetensors']
        with pytest.raises(HubError, match='HF_HUB_OFFLINE is set'):
            fetch_file(REPO, 'config.py')
    assert len(hub.requests) == num_requests


@pytest.mark.parametrize('name', ['model.safetensors', 'config.py'])
def test_a_file_damaged_in_the_cache_is_refused_removed_and_then_fetched_again(hub, content, name):
    file = REPO, name
    blob = fetch_file(*file).resolve()
    blob.write_bytes(b'x' + blob.read_bytes()[1:])
    with pytest.raises(HubError, match='did not have the hash that the Hub states'):
        fetch_file(*file)
    assert fetch_file(*file).read_bytes() == content[name]


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


@pytest.mark.parametrize('header', ['ETag', 'X-Linked-Etag', 'X-Repo-Commit'])
@pytest.mark.parametrize('status', [200, 404])
def test_names_in_the_cache_must_be_hashes(hub, content, tmp_path, header, status):
    headers = {'ETag': f'"{"a" * 40}"', 'X-Repo-Commit': 'b' * 40, header: '"../../../x"'}
    if header == 'X-Repo-Commit':
        headers[header] = '../../../../x'
    if status == 404:
        headers['X-Error-Code'] = 'EntryNotFound'
    hub.faults = [Fault('HEAD', 'model.safetensors', status, 99, headers)]
    with pytest.raises(HubError) as error:
        fetch_file(*WEIGHTS)
    if status == 200 or header == 'X-Repo-Commit':
        assert 'must be a hash of 40 or 64 hexadecimal digits' in str(error.value)
    assert not list(tmp_path.rglob('x')) and not list(tmp_path.parent.glob('x'))


def test_a_file_of_the_hub_that_is_too_large_is_refused_before_it_is_fetched(
    hub, content, monkeypatch
):
    monkeypatch.setattr(client, 'LARGEST_DOWNLOAD_BYTES', 20_000_000)
    with pytest.raises(HubError, match='must have at most 20,000,000 bytes'):
        fetch_file(*WEIGHTS)
    assert not gets(hub)


def test_a_client_that_others_use_is_left_as_it_was(hub, content):
    from huggingface_hub import file_download

    ask = file_download.get_hf_file_metadata
    fetch_file(*WEIGHTS)
    assert file_download.get_hf_file_metadata is ask


def test_a_list_that_the_hub_does_not_give_whole_is_refused(hub, content, monkeypatch):
    monkeypatch.setattr(client, 'MOST_FILES', 2)
    with pytest.raises(HubError, match='must hold fewer than 2 files'):
        client.stated_hashes(REPO)


def test_a_page_of_a_proxy_is_shortened(hub, content):
    hub.faults = [Fault('HEAD', 'config.py', 418, 99, {'X-Error-Message': 'long ' * 5_000})]
    with pytest.raises(HubError) as error:
        fetch_file(REPO, 'config.py')
    assert len(str(error.value)) < 600 and '\n' not in str(error.value)
    hub.faults = [Fault('GET', '/api/models', 418, 99, body=b'<html>' + b'words ' * 5_000)]
    with pytest.raises(HubError) as error:
        client.stated_hashes(REPO)
    assert len(str(error.value)) < 600 and '\n' not in str(error.value)


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
        client.locate_file(f'hf://someone/detector/{name}')


def test_hub_locations_name_repository_revision_and_file(hub):
    repository = hub.repositories['models', 'owner/repo'] = Repository(private=False)
    first = repository.commit({'model.safetensors': b'old', 'folder/model.safetensors': b'older'})
    repository.commit({'model.safetensors': b'new'})
    pinned = client.locate_file(f'hf://owner/repo@{first}/folder/model.safetensors')
    assert pinned.read_bytes() == b'older'
    assert client.locate_file('hf://owner/repo/model.safetensors').read_bytes() == b'new'


def test_addresses_are_downloaded_once_each_into_a_file_of_their_own(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))
    calls = []

    def download(url, target):
        calls.append(url)
        target.write_text(url)

    monkeypatch.setattr(client, 'download_url', download)
    urls = [
        'https://example.org/x/dino.pth',
        'https://example.org/y/dino.pth',
        'https://example.org/x/dino.pth?download=1',
        'https://example.org/',
        'https://example.org/' + 'long' * 100 + '%2e%2e%2f..',
    ]
    found = [client.locate_file(url) for _ in range(2) for url in urls]
    assert calls == urls and [path.read_text() for path in found] == urls * 2
    assert all(path.parent == tmp_path / 'checkpoints' for path in found)


@pytest.mark.parametrize(
    ('location', 'message'),
    [
        ('http://example.org/w.pth', 'must be a file, https://'),
        ('s3://bucket/w.pth', 'must be a file, https://'),
        ('hf://owner/repo', 'Hub location must be'),
    ],
)
def test_malformed_locations_are_refused(location, message):
    with pytest.raises(ValueError, match=message):
        client.locate_file(location)


def test_a_release_is_found_by_its_name_with_and_without_the_prefix_of_the_hub(hub):
    repository = hub.repositories['models', 'owner/repo'] = Repository(private=False)
    first = repository.commit({CONFIG_FILE: b'old', WEIGHTS_FILE: b'1'})
    repository.commit({CONFIG_FILE: b'new', WEIGHTS_FILE: b'2'})
    newest = find_release('owner/repo')
    assert newest is not None and (newest / CONFIG_FILE).read_bytes() == b'new'
    assert find_release('hf://owner/repo') == newest
    pinned = find_release(f'hf://owner/repo@{first}')
    assert pinned is not None and (pinned / CONFIG_FILE).read_bytes() == b'old'
    assert (pinned / WEIGHTS_FILE).read_bytes() == b'1'


def test_a_folder_near_a_release_is_no_release_and_the_release_is_named(
    hub, tmp_path, monkeypatch
):
    release = tmp_path / 'OUT/release'
    release.mkdir(parents=True)
    for file in (CONFIG_FILE, WEIGHTS_FILE):
        (release / file).touch()
    monkeypatch.chdir(tmp_path)
    for name in ('OUT/relase', './OUT/relase', str(tmp_path / 'OUT/relase')):
        with pytest.raises(ValueError, match=r'is no folder; did you mean .*OUT/release\?'):
            find_release(name)
    with pytest.raises(ValueError, match='OUT/x is no folder, and OUT/x.*: there is no such repo'):
        find_release('OUT/x')
    with pytest.raises(ValueError, match='OUT is no release; it holds .*/OUT/release'):
        find_release(f'../{tmp_path.name}/OUT')


@pytest.mark.parametrize(
    'name', ['hf://owner', 'hf://owner/repo/config.py', 'hf://', 'config', 'configs/a.py']
)
def test_what_names_no_repository_is_no_release(hub, name):
    assert find_release(name) is None


CONTENT = np.random.default_rng(0).bytes(3_000_001)


@pytest.fixture
def web(hub):
    """A file on a server; `asked()` are the ranges of the requests for it."""
    repository = hub.repositories['models', 'some/web'] = Repository(private=False)
    repository.commit({'w.pth': CONTENT})
    hub.asked = lambda: [headers.get('Range') for _, _, headers in gets(hub)]
    return hub


def download(web, tmp_path):
    (tmp_path / 'out').mkdir()
    client.download_url(f'{web.url}/some/web/resolve/main/w.pth', tmp_path / 'out/w.pth')
    return (tmp_path / 'out/w.pth').read_bytes()


def require_nothing_left(web, tmp_path, match=''):
    with pytest.raises(HubError, match=match) as error:
        download(web, tmp_path)
    assert '\n' not in str(error.value) and not list((tmp_path / 'out').iterdir())


def test_a_file_of_the_web_is_downloaded(web, tmp_path):
    assert download(web, tmp_path) == CONTENT and web.asked() == [None]


def test_a_web_download_that_is_cut_goes_on_where_it_was(web, tmp_path):
    web.faults = [Fault('GET', 'w.pth', times=2)]  # each cuts what is left in half
    assert download(web, tmp_path) == CONTENT
    assert web.asked() == [None, 'bytes=1500000-', 'bytes=2250000-']


def test_a_server_without_ranges_begins_again(web, tmp_path):
    web.faults, web.lacks = [Fault('GET', 'w.pth')], {'Range'}
    assert download(web, tmp_path) == CONTENT and len(web.asked()) == 2


def test_content_that_changed_in_between_is_not_mixed(web, tmp_path):
    web.faults, web.lacks = [Fault('GET', 'w.pth')], {'ETag'}
    assert download(web, tmp_path) == CONTENT and web.asked() == [None, None]


@pytest.mark.parametrize('status', [429, 500, 503])
def test_web_answers_that_pass_are_asked_again(web, tmp_path, status):
    web.faults = [Fault('GET', 'w.pth', status, 2)]
    assert download(web, tmp_path) == CONTENT


@pytest.mark.parametrize(('status', 'count'), [(404, 1), (403, 1), (503, 5)])
def test_refusals_are_one_line_and_leave_nothing(web, tmp_path, status, count):
    web.faults = [Fault('GET', 'w.pth', status, 9)]
    require_nothing_left(web, tmp_path, rf'w\.pth cannot be downloaded: .*{status}')
    assert len(web.asked()) == count


@pytest.mark.parametrize('lacks', [set(), {'Content-Length'}])
def test_what_is_too_large_is_refused(web, tmp_path, monkeypatch, lacks):
    monkeypatch.setattr(client, 'LARGEST_DOWNLOAD_BYTES', 2_000_000)
    web.lacks = lacks
    require_nothing_left(web, tmp_path, 'must have at most 2,000,000 bytes')


@pytest.mark.parametrize(
    'target', ['file:///etc/passwd', 'ftp://127.0.0.1/x', 'data:text/plain,x']
)
def test_redirects_to_another_protocol_are_refused(web, tmp_path, target):
    web.faults = [Fault('GET', 'w.pth', 302, headers={'Location': target})]
    require_nothing_left(web, tmp_path)


@pytest.mark.parametrize(
    'url', ['https://[', 'https://a b/c', 'https://127.0.0.1:x/', 'https:///']
)
def test_addresses_that_are_none_are_one_line(tmp_path, url, monkeypatch):
    monkeypatch.setattr(client, 'PAUSES_S', ())
    with pytest.raises(HubError, match='cannot be downloaded'):
        client.download_url(url, tmp_path / 'w')
