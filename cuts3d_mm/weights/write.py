"""Write weights: a state dict, whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from cuts3d_mm.files.atomic import open_atomically


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
