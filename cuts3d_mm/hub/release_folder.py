"""Find the folder of a published detector, fetched if it is on the Hub."""

from __future__ import annotations

from pathlib import Path

from cuts3d_mm.hub.download import fetch_file
from cuts3d_mm.hub.locate import locate_file
from cuts3d_mm.hub.location import HUB_PREFIX, HubFile, HubRepository, is_repository_name

CONFIG_FILE, WEIGHTS_FILE = 'config.py', 'model.safetensors'


def fetch_detector(model: str | None, weights: str | None) -> None:
    """Download what a detector needs into the cache, if its name is of the Hub or an address.

    Commands call this before they import packages that take seconds.

    Raises:
        ValueError: a malformed location.
        HubError: it cannot be downloaded.
    """
    if weights is not None:
        locate_file(weights)
    elif model is not None:
        find_release(model)


def find_release(model: str) -> Path | None:
    """Find a release; None if `model` is something else.

    Args:
        model: `owner/repo[@revision]`, also after `hf://`; a folder that `cuts3d download` made;
            or anything.

    Raises:
        HubError: the Hub does not give it.
    """
    if (Path(model) / CONFIG_FILE).is_file():
        return Path(model)
    name = model.removeprefix(HUB_PREFIX)
    if Path(model).exists() or not is_repository_name(name):
        return None
    repository = HubRepository.parse(name)
    config = fetch_file(HubFile(repository, CONFIG_FILE))
    # Both of one commit, the one that the cache names its folder by.
    pinned = HubRepository(repository.repo_id, config.parent.name)
    fetch_file(HubFile(pinned, WEIGHTS_FILE))
    return config.parent
