from __future__ import annotations

import time
from types import SimpleNamespace

import pytest
from loopback_hub import TOKEN, serve_hub

from cuts3d_mm.hub import connection


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A Hub on loopback that the real client talks to, with an empty cache and a token."""
    constants = pytest.importorskip('huggingface_hub.constants')
    with serve_hub() as (state, url):
        monkeypatch.setattr(constants, 'ENDPOINT', url)
        template = url + '/{repo_id}/resolve/{revision}/{filename}'
        monkeypatch.setattr('huggingface_hub.file_download.HUGGINGFACE_CO_URL_TEMPLATE', template)
        monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path / 'hub_cache'))
        monkeypatch.setattr(constants, 'HF_TOKEN_PATH', str(tmp_path / 'no_token'))
        monkeypatch.setenv('HF_TOKEN', TOKEN)
        without_sleep = SimpleNamespace(**{**vars(time), 'sleep': lambda seconds: None})
        monkeypatch.setattr('huggingface_hub.utils._http.time', without_sleep)
        monkeypatch.setattr('huggingface_hub.file_download.time', without_sleep)
        monkeypatch.setattr(connection, 'PAUSES_S', (0.0, 0.0, 0.0, 0.0))
        state.url = url
        yield state
