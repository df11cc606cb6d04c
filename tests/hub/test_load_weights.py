from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from cuts3d_mm.hub import load_weights as weights


@pytest.mark.parametrize('suffix', ['pth', 'safetensors'])
def test_local_files_are_loaded(tmp_path, suffix):
    path = tmp_path / f'w.{suffix}'
    state = {'a': torch.arange(6.0).reshape(2, 3)}
    save_file(state, path) if suffix == 'safetensors' else torch.save(state, path)
    assert torch.equal(weights.load_weights(str(path))['a'], state['a'])


class Harmful:
    def __reduce__(self):
        return (print, ('this must never be run',))


def test_pickles_that_could_run_code_are_refused(tmp_path, capsys):
    torch.save({'a': Harmful()}, tmp_path / 'w.pth')
    with pytest.raises(ValueError, match='must hold tensors only'):
        weights.load_weights(str(tmp_path / 'w.pth'))
    assert 'never be run' not in capsys.readouterr().out


def test_hub_locations_name_repository_revision_and_file(monkeypatch, tmp_path):
    hub = pytest.importorskip('huggingface_hub')
    asked = []
    monkeypatch.setattr(
        hub, 'hf_hub_download', lambda *a, **k: asked.append((a, k)) or str(tmp_path)
    )
    weights.locate_weights('hf://owner/repo@abc/folder/model.safetensors')
    weights.locate_weights('hf://owner/repo/model.safetensors')
    assert asked == [
        (('owner/repo', 'folder/model.safetensors'), {'revision': 'abc', 'repo_type': 'model'}),
        (('owner/repo', 'model.safetensors'), {'revision': None, 'repo_type': 'model'}),
    ]


def test_urls_are_downloaded_once_into_the_cache(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))
    calls = []

    def download(url, target):
        calls.append(url)
        torch.save({'a': torch.zeros(1)}, target)

    monkeypatch.setattr(torch.hub, 'download_url_to_file', download)
    for _ in range(2):
        weights.load_weights('https://example.org/x/dino.pth?download=1')
    assert calls == ['https://example.org/x/dino.pth?download=1']
    assert (tmp_path / 'checkpoints/dino.pth').is_file()


@pytest.mark.parametrize(
    ('location', 'message'),
    [
        ('http://example.org/w.pth', 'must be a file, https://'),
        ('hf://owner/repo', 'Hub location must be'),
        ('https://example.org/..', 'must end in a file name'),
    ],
)
def test_malformed_locations_are_refused(location, message):
    with pytest.raises(ValueError, match=message):
        weights.locate_weights(location)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match='found none at'):
        weights.load_weights(str(tmp_path / 'gone.pth'))
