from __future__ import annotations

import pytest
from loopback_hub import Repository

from cuts3d_mm.hub.client import CONFIG_FILE, WEIGHTS_FILE, find_release


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


@pytest.mark.parametrize('name', ['hf://owner', 'hf://owner/repo/config.py', 'hf://', 'config'])
def test_what_names_no_repository_is_no_release(hub, name):
    assert find_release(name) is None
