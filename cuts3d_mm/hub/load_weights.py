"""Where weights come from: a file, a URL or the Hugging Face Hub. Never an open pickle."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlparse

import torch
from torch import Tensor

from cuts3d_mm.hub.download import fetch_file
from cuts3d_mm.hub.location import HUB_PREFIX, HubFile


def load_weights(location: str) -> Mapping[str, Tensor]:
    """Load a state dict.

    Args:
        location: path of a file, `https://...`, or `hf://owner/repo[@revision]/file`;
            `.safetensors`, or a PyTorch file that holds nothing but tensors.

    Raises:
        ValueError: a malformed location, or a file that needs more than weights-only loading.
        FileNotFoundError: no such file.
        HubError: the Hub does not give it.
    """
    path = locate_weights(location)
    if not path.is_file():
        raise FileNotFoundError(f'checkpoint must be a file, found none at {path}')
    if path.suffix == '.safetensors':
        from safetensors.torch import load_file

        return load_file(path)
    try:
        return torch.load(path, map_location='cpu', weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f'{location} must hold tensors only, it holds Python objects that could run code; '
            'convert it to .safetensors where you trust it'
        ) from error


def locate_weights(location: str) -> Path:
    """Turn a location into a local file, downloading into the library caches if need be."""
    if location.startswith(HUB_PREFIX):
        return fetch_file(HubFile.parse(location))
    if '://' not in location:
        return Path(location).expanduser()
    url = urlparse(location)
    if url.scheme != 'https':
        raise ValueError(f'checkpoint must be a file, https:// or hf:// location, got {location}')
    folder = Path(torch.hub.get_dir()) / 'checkpoints'
    name = Path(url.path).name
    if name in ('', '.', '..'):
        raise ValueError(f'checkpoint URL must end in a file name, got {location}')
    target = folder / name
    if not target.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(location, str(target))
    return target
