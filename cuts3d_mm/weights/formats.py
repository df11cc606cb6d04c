"""The file formats of weights: safetensors, PyTorch's zip, PyTorch's older one, and pickle."""

from __future__ import annotations

import io
import os
import sys
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from cuts3d_mm.weights.arrays import ARRAY_RULES
from cuts3d_mm.weights.pickles import read_pickle
from cuts3d_mm.weights.plain import PLAIN_RULES, to_plain
from cuts3d_mm.weights.tensors import Storage, StorageKind, TensorBuilder

_OLD_TORCH = 0x1950A86A20F9469CFC6C  # the first pickle of its older format
_OLD_VERSION = 1001
_LARGEST_PICKLE_BYTES = 1 << 30  # of a zip, without tensors; a long training has 100 MB of logs
_MOST_RECORDS = 200_000
_CHUNK_BYTES = 1 << 24


def read_file(path: Path) -> Any:
    """Read whatever weights lie in a file, by its first bytes.

    Returns:
        Plain values.

    Raises:
        ValueError: another kind of file, damaged, or more than data. Other errors of
            `read_pickle`, `zipfile` and `safetensors`, where the file is damaged.
    """
    with path.open('rb') as file:
        head = file.read(512)
        file.seek(0)
        return to_plain(_reader_of(head)(file))


def _reader_of(head: bytes) -> Callable[[BinaryIO], Any]:
    if head.startswith(b'PK\x03\x04'):
        return _read_zip
    if head.startswith(b'\x80'):
        return _read_pickles
    if head[8:9] == b'{':
        return _read_safetensors
    if not head:
        raise ValueError('it is empty')
    if head[257:262] == b'ustar':
        raise ValueError('it is a tar of a very old PyTorch; save it again with a newer one')
    if head.startswith(b'version https://git-lfs'):
        raise ValueError('it is a pointer of git LFS; fetch the file itself: git lfs pull')
    raise ValueError('it is neither safetensors, nor of PyTorch, nor a pickle of arrays')


def _read_safetensors(file: BinaryIO) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(file.name)


def _read_zip(file: BinaryIO) -> Any:
    size = _size_of(file)
    with zipfile.ZipFile(file) as archive:
        records = {info.filename: info for info in archive.infolist()}
        _require_plain(records, size)
        pickle = _pickle_of(records)
        root = pickle.removesuffix('data.pkl')
        order = records.get(f'{root}byteorder')
        if order is not None and archive.read(order) != b'little':
            raise ValueError('it was written on a machine of another byte order')

        def load(key: str, kind: StorageKind, count: int) -> Storage:
            info = records[f'{root}data/{key}']
            if info.file_size != count * kind.item_bytes:
                raise ValueError(f'its record {key[:20]} is not as large as it says')
            storage = Storage(torch.empty(count, dtype=kind.dtype))
            with archive.open(info) as record:
                _read_into(storage, record)
            return storage

        return _read_one(io.BytesIO(archive.read(pickle)), TensorBuilder(load))


def _require_plain(records: dict[str, zipfile.ZipInfo], size: int) -> None:
    is_stored = all(
        info.compress_type == zipfile.ZIP_STORED and not info.flag_bits & 1
        for info in records.values()
    )
    total = sum(info.file_size for info in records.values())
    if not is_stored or total > size or len(records) > _MOST_RECORDS:
        raise ValueError('it is a zip with compressed, encrypted or overlapping records')


def _pickle_of(records: dict[str, zipfile.ZipInfo]) -> str:
    pickles = [name for name in records if name.count('/') == 1 and name.endswith('/data.pkl')]
    if len(pickles) != 1 or records[pickles[0]].file_size > _LARGEST_PICKLE_BYTES:
        raise ValueError('it is a zip without the one data.pkl that PyTorch writes')
    return pickles[0]


def _read_pickles(file: BinaryIO) -> Any:
    """Read PyTorch's older format, or a pickle of arrays, which begin alike."""
    size = _size_of(file)
    storages: dict[str, Storage] = {}
    reserved = 0

    def reserve(key: str, kind: StorageKind, count: int) -> Storage:
        nonlocal reserved
        reserved += count * kind.item_bytes
        if reserved > size:
            raise ValueError('its storages are larger than the file')
        storages[key] = Storage(torch.empty(count, dtype=kind.dtype))
        return storages[key]

    builder = TensorBuilder(reserve)
    first = _read_one(file, builder)
    if type(first) is not int or first != _OLD_TORCH:
        if storages:
            raise ValueError('it refers to storages that it does not have')
        return _to_tensors(to_plain(first))
    version, system = _read_one(file, builder), to_plain(_read_one(file, builder))
    if version != _OLD_VERSION or system.get('little_endian') is not True:
        raise ValueError('it is of another version or byte order')
    content = _read_one(file, builder)
    _fill(storages, to_plain(_read_one(file, builder)), file)
    return content


def _fill(storages: dict[str, Storage], keys: Iterable[str], file: BinaryIO) -> None:
    """Read the content of all storages, which stand in the order of the keys."""
    for key in keys:
        storage = storages.pop(key)
        if int.from_bytes(file.read(8), 'little') != storage.content.numel():
            raise ValueError(f'its storage {key} is not as large as it says')
        _read_into(storage, file)
    if storages:
        raise ValueError('it refers to storages that it does not have')


def _to_tensors(content: Any) -> Any:
    """Make tensors of the arrays of detectron2's files."""
    if isinstance(content, dict):
        return {name: _to_tensors(value) for name, value in content.items()}
    return torch.from_numpy(content) if isinstance(content, np.ndarray) else content


def _read_one(file: BinaryIO, builder: TensorBuilder) -> Any:
    rules = {**PLAIN_RULES, **ARRAY_RULES, **builder.rules()}
    return read_pickle(file, rules, builder.load_persistent)


def _read_into(storage: Storage, file: Any) -> None:
    """Fill a storage with the next bytes of a file."""
    if sys.byteorder != 'little':
        raise ValueError('this machine has another byte order')
    content = storage.content.view(torch.uint8)
    target = memoryview(content.numpy().data)
    for begin in range(0, len(target), _CHUNK_BYTES):
        part = target[begin : begin + _CHUNK_BYTES]
        if file.readinto(part) != len(part):
            raise ValueError('it ends too early')
    if storage.content.dtype == torch.bool:
        content.clamp_(max=1)
    if isinstance(file, zipfile.ZipExtFile) and file.read(1):  # also compares the checksum
        raise ValueError('its record is longer than it says')


def _size_of(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size
