"""Turn a location of weights into a local file, downloaded into a cache if need be."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from urllib.parse import urlsplit

from cuts3d_mm.hub.download import fetch_file
from cuts3d_mm.hub.location import HUB_PREFIX, HubFile
from cuts3d_mm.hub.web_file import download_url

_UNSAFE = re.compile(r'[^\w.-]')
_LONGEST_NAME = 100  # characters of the name that an address ends in


def locate_file(location: str) -> Path:
    """Find a file.

    Args:
        location: path of a file, `https://...`, or `hf://owner/repo[@revision]/file`.

    Returns:
        The local file, which need not exist if `location` is a path.

    Raises:
        ValueError: a malformed location.
        HubError: it cannot be downloaded.
    """
    if location.startswith(HUB_PREFIX):
        return fetch_file(HubFile.parse(location))
    if '://' not in location:
        return Path(location).expanduser()
    if urlsplit(location).scheme != 'https':
        raise ValueError(f'checkpoint must be a file, https:// or hf:// location, got {location}')
    target = cached_path(location)
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        download_url(location, target)
    return target


def cached_path(url: str) -> Path:
    """Where a downloaded file lies; the name holds the whole address, by its hash."""
    import torch  # takes seconds, which files of the Hub and of this machine need not wait for

    name = _UNSAFE.sub('_', Path(urlsplit(url).path).name)[-_LONGEST_NAME:]
    digest = hashlib.sha256(url.encode()).hexdigest()
    return Path(torch.hub.get_dir()) / 'checkpoints' / f'{digest}_{name}'
