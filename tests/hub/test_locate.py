from __future__ import annotations

import pytest
import torch
from loopback_hub import Repository

from cuts3d_mm.hub import client


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
