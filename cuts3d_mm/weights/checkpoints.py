"""Read files of weights and training checkpoints as data, check weights, and write them."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import sys
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from cuts3d_mm.files.atomic import open_atomically
from cuts3d_mm.hub.client import locate_file

from .unpickling import TensorBuilder, read_pickle, to_plain

# Errors that readers raise if a file is damaged.
_DAMAGED = (
    *(ValueError, TypeError, LookupError, AttributeError, AssertionError, ArithmeticError),
    *(EOFError, OSError, RuntimeError, MemoryError),
    *(struct.error, zipfile.BadZipFile, SafetensorError),
)
_CHUNK_BYTES = 1 << 24


@dataclass(frozen=True)
class StateFile:
    """The content of a file of weights: containers, numbers, text, arrays and tensors."""

    location: str
    content: dict[str, Any]

    @property
    def weights(self) -> dict[str, Tensor]:
        """State dict of a network.

        Raises:
            ValueError: the file holds no state dict.
        """
        return require_tensors(self.content.get('state_dict', self.content), self.location)

    @property
    def meta(self) -> dict[str, Any]:
        """MMEngine's notes about a training; a text in them is never run."""
        meta = self.content.get('meta')
        return meta if isinstance(meta, dict) else {}


def read_state(location: str) -> StateFile:
    """Read a file of weights or a checkpoint of a training; no code in it is run.

    Args:
        location: path of a file, `https://...`, or `hf://owner/repo[@revision]/file`;
            safetensors, a file of PyTorch, or a pickle of NumPy arrays.

    Raises:
        ValueError: the location is malformed, or the file is damaged or could run code.
        FileNotFoundError: the file does not exist.
        HubError: the file cannot be downloaded.
    """
    path = locate_file(location)
    if not path.is_file():
        raise FileNotFoundError(f'checkpoint must be a file, found none at {path}')
    try:
        with path.open('rb') as file:
            read = _reader_of(file.read(512))
            file.seek(0)
            content = to_plain(read(file))
    except _DAMAGED as error:
        reason = ' '.join(str(error).split())[:300] or type(error).__name__
        raise ValueError(f'{location} must be a whole file of weights: {reason}') from error
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise ValueError(f'{location} must hold weights by their names, it holds something else')
    return StateFile(location, content)


def require_tensors(state: Any, location: str) -> dict[str, Tensor]:
    """Check that a value is a state dict.

    Raises:
        ValueError: the value is empty, or holds anything but tensors.
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


def _reader_of(head: bytes) -> Callable[[BinaryIO], Any]:
    """Choose the reader of a file by its first bytes."""
    if head.startswith(b'PK\x03\x04'):
        return _read_zip
    if head.startswith(b'\x80'):
        return _read_pickles
    if head[8:9] == b'{':
        return lambda file: load_file(file.name)
    if not head:
        raise ValueError('it is empty')
    if head[257:262] == b'ustar':
        raise ValueError('it is a tar of a very old PyTorch; save it again with a newer one')
    if head.startswith(b'version https://git-lfs'):
        raise ValueError('it is a pointer of git LFS; fetch the file itself: git lfs pull')
    raise ValueError('it is neither safetensors, nor a file of PyTorch, nor a pickle of arrays')


_LARGEST_PICKLE_BYTES = 1 << 30  # without tensors; a long training has 100 MB of logs
_MOST_RECORDS = 200_000


def _read_zip(file: BinaryIO) -> Any:
    size = os.fstat(file.fileno()).st_size
    with zipfile.ZipFile(file) as archive:
        records = {info.filename: info for info in archive.infolist()}
        is_stored = all(
            info.compress_type == zipfile.ZIP_STORED and not info.flag_bits & 1
            for info in records.values()
        )
        total = sum(info.file_size for info in records.values())
        if not is_stored or total > size or len(records) > _MOST_RECORDS:
            raise ValueError('it is a zip with compressed, encrypted or overlapping records')
        pickles = [name for name in records if name.count('/') == 1 and name.endswith('/data.pkl')]
        if len(pickles) != 1 or records[pickles[0]].file_size > _LARGEST_PICKLE_BYTES:
            raise ValueError('it is a zip without the one data.pkl that PyTorch writes')
        root = pickles[0].removesuffix('data.pkl')
        order = records.get(f'{root}byteorder')
        if order is not None and archive.read(order) != b'little':
            raise ValueError('it was written on a machine of another byte order')
        tensors = TensorBuilder(size)
        content = read_pickle(io.BytesIO(archive.read(pickles[0])), tensors)
        for key, storage in tensors.storages.items():
            info = records[f'{root}data/{key}']
            if info.file_size != storage.content.nbytes:
                raise ValueError(f'its record {key[:20]} is not as large as it says')
            with archive.open(info) as record:
                _read_into(storage.content, record)
        return content


_OLD_TORCH = 0x1950A86A20F9469CFC6C  # the first pickle in PyTorch's older format
_OLD_VERSION = 1001


def _read_pickles(file: BinaryIO) -> Any:
    """Read PyTorch's older format, or a pickle of arrays: both begin with the same byte."""
    tensors = TensorBuilder(os.fstat(file.fileno()).st_size)
    first = read_pickle(file, tensors)
    if type(first) is not int or first != _OLD_TORCH:
        if tensors.storages:
            raise ValueError('it refers to storages that it does not have')
        return _to_tensors(to_plain(first))
    version, system = read_pickle(file, tensors), to_plain(read_pickle(file, tensors))
    if version != _OLD_VERSION or system.get('little_endian') is not True:
        raise ValueError('it has another version or byte order')
    content, keys = read_pickle(file, tensors), to_plain(read_pickle(file, tensors))
    if sorted(keys) != sorted(tensors.storages):
        raise ValueError('it refers to storages that it does not have')
    for key in keys:
        storage = tensors.storages[key].content
        if int.from_bytes(file.read(8), 'little') != storage.numel():
            raise ValueError(f'its storage {key} is not as large as it says')
        _read_into(storage, file)
    return content


def _to_tensors(content: Any) -> Any:
    """Turn the arrays in files of detectron2 into tensors."""
    if isinstance(content, dict):
        return {name: _to_tensors(value) for name, value in content.items()}
    return torch.from_numpy(content) if isinstance(content, np.ndarray) else content


def _read_into(storage: Tensor, file: Any) -> None:
    """Fill a storage with the next bytes of a file."""
    if sys.byteorder != 'little':
        raise ValueError('this machine has another byte order')
    content = storage.view(torch.uint8)
    target = memoryview(content.numpy().data)
    for begin in range(0, len(target), _CHUNK_BYTES):
        part = target[begin : begin + _CHUNK_BYTES]
        if file.readinto(part) != len(part):
            raise ValueError('it ends too early')
    if storage.dtype == torch.bool:
        content.clamp_(max=1)
    if isinstance(file, zipfile.ZipExtFile) and file.read(1):  # also compares the checksum
        raise ValueError('its record is longer than it says')


def check_weights_fit(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Check names and shapes of weights against the state dict of their network.

    Raises:
        ValueError: there are differences; the message gives the first names of each kind.
    """
    shared = sorted(found.keys() & expected.keys())
    problems = {
        'missing': sorted(expected.keys() - found.keys()),
        'unknown': sorted(found.keys() - expected.keys()),
        'of another shape': [
            f'{name} {tuple(found[name].shape)}, needed {tuple(expected[name].shape)}'
            for name in shared
            if found[name].shape != expected[name].shape
        ],
    }
    told = [f'{kind}: {some_of(names)}' for kind, names in problems.items() if names]
    if told:
        raise ValueError(f'weights must fit the network; {"; ".join(told)}')


def some_of(names: Iterable[str]) -> str:
    """Give the first names, and the number of the others."""
    listed = list(names)
    more = f' and {len(listed) - 5} more' if len(listed) > 5 else ''
    return (', '.join(listed[:5]) or 'none') + more


def digest_weights(state: Mapping[str, Tensor]) -> str:
    """Compute the SHA-256 of names and values, which is the same on every device."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f'{name} {tuple(tensor.shape)} {tensor.dtype}'.encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def write_checkpoint(path: Path, weights: dict[str, Tensor], wrapper: dict[str, Any]) -> None:
    """Write a state dict, whole or not at all.

    A name that ends in `.safetensors` gives that format. Any other name gives PyTorch's, with
    `wrapper` around the weights, where None marks their key.

    Raises:
        FileNotFoundError: the folder does not exist.
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
