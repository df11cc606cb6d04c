"""A checkpoint of a training in, its weights out; no code of the file is run.

MMEngine pickles its logs beside the weights, which weights-only loading refuses. Here whatever
is no tensor, container or number becomes an inert object instead.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from cuts3d_mm.hub.load_weights import load_weights, locate_weights

_SAFE = {
    ('collections', 'OrderedDict'),
    ('torch._utils', '_rebuild_tensor_v2'),
    ('torch._utils', '_rebuild_parameter'),
    ('torch', 'Size'),
}


class _Inert:
    """Stands for an object of any class; takes whatever a pickle does to it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __call__(self, *args: Any, **kwargs: Any) -> _Inert:
        return self

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, value: Any) -> None:
        """Take an element of a list."""

    def extend(self, values: Any) -> None:
        """Take elements of a list."""


class _InertUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        is_storage = module == 'torch' and name.endswith('Storage')
        if (module, name) in _SAFE or is_storage:
            return super().find_class(module, name)
        return _Inert


def load_checkpoint(location: str) -> Mapping[str, Any]:
    """Load whatever a checkpoint holds; what is no tensor, container or number is inert.

    Args:
        location: as for `load_weights`.

    Raises:
        ValueError: a malformed location.
        FileNotFoundError: no such file.
    """
    try:
        return load_weights(location)
    except ValueError:
        path = locate_weights(location)
        if not path.is_file():
            raise
        return _load_inert(str(path))


def load_detector_weights(location: str) -> dict[str, Tensor]:
    """Load the weights of a detector.

    Args:
        location: as for `load_weights`; a file that holds more than tensors must be a
            checkpoint as `cuts3d train` writes it.

    Returns:
        The state dict.

    Raises:
        ValueError: no state dict in it, or a malformed location.
        FileNotFoundError: no such file.
    """
    content = load_checkpoint(location)
    return require_tensors(content.get('state_dict', content), location)


def require_tensors(state: Any, location: str) -> dict[str, Tensor]:
    """Let a state dict pass.

    Raises:
        ValueError: it holds anything but tensors, or nothing.
    """
    is_mapping = isinstance(state, Mapping) and state
    if not is_mapping or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(
            f'{location} must hold the weights of a detector, a state dict of tensors; convert it '
            'to .safetensors where you trust it'
        )
    return dict(state)


def _load_inert(path: str) -> Mapping[str, Any]:
    module = SimpleNamespace(
        Unpickler=_InertUnpickler, load=_load, dump=None, __name__='cuts3d_inert'
    )
    content = torch.load(path, map_location='cpu', weights_only=False, pickle_module=module)
    return content if isinstance(content, Mapping) else {}


def _load(file: Any, **options: Any) -> Any:
    return _InertUnpickler(file, **options).load()
