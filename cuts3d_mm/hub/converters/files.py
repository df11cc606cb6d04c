"""Checkpoint files of other code bases, read without running what they pickle."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from cuts3d_mm.hub.training_checkpoint import load_checkpoint
from cuts3d_mm.labels.atomic import open_atomically

# What the pickle of an array needs, by numpy's old and new module names.
_ARRAY_NAMES = {
    ('numpy', 'ndarray'),
    ('numpy', 'dtype'),
    *((f'numpy.{core}.multiarray', '_reconstruct') for core in ('core', '_core')),
    ('_codecs', 'encode'),
    ('collections', 'OrderedDict'),
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ARRAY_NAMES:
            raise pickle.UnpicklingError(f'{module}.{name}')
        return super().find_class(module, name)


def read_checkpoint(location: str) -> Mapping[str, Any]:
    """Read a checkpoint of PyTorch, safetensors, or detectron2's `.pkl` of arrays.

    Args:
        location: as for `load_weights`.

    Returns:
        What the file holds, arrays turned into tensors.

    Raises:
        ValueError: a pickle of more than arrays.
        FileNotFoundError: no such file.
    """
    if not location.endswith('.pkl'):
        return load_checkpoint(location)
    try:
        with Path(location).open('rb') as file:
            content = _ArrayUnpickler(file, encoding='latin1').load()
    except pickle.UnpicklingError as error:
        raise ValueError(f'{location} must hold arrays only, it also holds {error}') from error
    return _to_tensors(content)


def _to_tensors(content: Any) -> Any:
    if isinstance(content, Mapping):
        return {name: _to_tensors(value) for name, value in content.items()}
    return torch.from_numpy(content) if isinstance(content, np.ndarray) else content


def write_checkpoint(path: Path, weights: dict[str, Tensor], wrapper: dict[str, Any]) -> None:
    """Write a state dict, whole or not at all.

    Args:
        path: ends in `.safetensors`, or else PyTorch's format is written.
        weights: name -> tensor.
        wrapper: what lies around them in PyTorch's format, the key of the weights with None.

    Raises:
        FileNotFoundError: no such folder.
    """
    if not path.parent.is_dir():
        raise FileNotFoundError(f'folder of {path} must exist')
    tensors = {name: value.contiguous() for name, value in weights.items()}
    with open_atomically(path) as file:
        if path.suffix == '.safetensors':
            file.write(save(tensors, metadata={'format': 'pt'}))
        else:
            filled = {key: tensors if value is None else value for key, value in wrapper.items()}
            torch.save(filled, file)
