"""Read weights from any file, URL or Hub location as data: the one function for all commands."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from cuts3d_mm.hub.locate import locate_file
from cuts3d_mm.weights.formats import read_file

# What readers of files raise where a file is damaged.
_DAMAGED = (
    *(ValueError, TypeError, LookupError, AttributeError, AssertionError, ArithmeticError),
    *(EOFError, OSError, RuntimeError, MemoryError, struct.error, zipfile.BadZipFile),
)


@dataclass(frozen=True)
class StateFile:
    """What a file of weights holds: containers, numbers, text, arrays and tensors."""

    location: str
    content: dict[str, Any]

    @property
    def weights(self) -> dict[str, Tensor]:
        """The state dict of a network.

        Raises:
            ValueError: there is none.
        """
        return require_tensors(self.content.get('state_dict', self.content), self.location)

    @property
    def meta(self) -> dict[str, Any]:
        """What MMEngine notes about a training; text in it is text."""
        meta = self.content.get('meta')
        return meta if isinstance(meta, dict) else {}


def read_state(location: str) -> StateFile:
    """Read a file of weights or a checkpoint of a training; no code of it is run.

    Args:
        location: path of a file, `https://...`, or `hf://owner/repo[@revision]/file`;
            safetensors, a file of PyTorch, or a pickle of NumPy arrays.

    Raises:
        ValueError: a malformed location, or a file that is damaged or could run code.
        FileNotFoundError: no such file.
        HubError: it cannot be downloaded.
    """
    path = locate_file(location)
    if not path.is_file():
        raise FileNotFoundError(f'checkpoint must be a file, found none at {path}')
    content = _read(location, path)
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise ValueError(f'{location} must hold weights by their names, it holds something else')
    return StateFile(location, content)


def require_tensors(state: Any, location: str) -> dict[str, Tensor]:
    """Check that content is a state dict.

    Raises:
        ValueError: it holds anything but tensors, or nothing.
    """
    is_mapping = isinstance(state, Mapping) and state
    if not is_mapping or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise ValueError(
            f'{location} must hold the weights of a network, a state dict of tensors; convert it '
            'to .safetensors where you trust it'
        )
    return dict(state)


def _read(location: str, path: Any) -> Any:
    from safetensors import SafetensorError

    try:
        return read_file(path)
    except (*_DAMAGED, SafetensorError) as error:
        reason = ' '.join(str(error).split())[:300] or type(error).__name__
        raise ValueError(f'{location} must be a whole file of weights: {reason}') from error
