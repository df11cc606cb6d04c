"""Files of weights whose pickles write a marker when they are loaded as PyTorch loads them."""

from __future__ import annotations

import io
import os
import pickle
import struct
import subprocess
import tarfile
import zipfile
from collections import OrderedDict
from pathlib import Path

import torch

WEIGHTS = OrderedDict(a=torch.ones(2, 3))
TRAINING = {
    'state_dict': WEIGHTS,
    'meta': {'epoch': 0, 'iter': 2},
    'optimizer': {'state': {}, 'param_groups': []},
    'message_hub': {'log_scalars': {}, 'runtime_info': {}, 'resumed_keys': {}},
}


class Call:
    """An object whose pickle calls something."""

    def __init__(self, function, *arguments):
        self.parts = function, arguments

    def __reduce__(self):
        return self.parts

    def __call__(self):
        """May itself be what is called."""


def _zip_of(pickled: bytes, path: Path, more: dict[str, bytes] | None = None) -> None:
    """A file of PyTorch around a pickle that was written by hand."""
    with zipfile.ZipFile(path, 'w') as archive:
        for name, content in {'data.pkl': pickled, 'version': b'3\n', **(more or {})}.items():
            archive.writestr(f'archive/{name}', content)


def _text(value: str) -> bytes:
    data = value.encode()
    return b'X' + struct.pack('<I', len(data)) + data


def _saved(content, path: Path, is_zip: bool = True) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=is_zip)


def _pickled(content, path: Path, protocol: int) -> None:
    path.write_bytes(pickle.dumps(content, protocol=protocol))


def _tar(harm, path: Path) -> None:
    """The format of PyTorch 0.1."""
    members = {'sys_info': [{}], 'pickle': [harm], 'storages': [0, []], 'tensors': [0]}
    with tarfile.open(path, 'w', format=tarfile.USTAR_FORMAT) as archive:
        for name, contents in members.items():
            data = b''.join(pickle.dumps(content, protocol=2) for content in contents)
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def _legacy(path: Path, place: int, harm) -> None:
    """PyTorch's older format, the harm in one of its five pickles."""
    parts = [0x1950A86A20F9469CFC6C, 1001, {'little_endian': True}, {'a': 1}, []]
    parts[place] = harm
    path.write_bytes(b''.join(pickle.dumps(part, protocol=2) for part in parts))


def _torch_hub(marker: Path) -> str:
    """A repository of PyTorch Hub that writes the marker."""
    folder = marker.parent / 'repository'
    folder.mkdir(exist_ok=True)
    (folder / 'hubconf.py').write_text(f'def x():\n    open({str(marker)!r}, "w").close()\n')
    return str(folder)


def kinds(marker: Path) -> dict:
    """Name -> what writes the file to a path."""
    harm = Call(os.system, f'touch {marker}')
    return {**_by_place(harm), **_by_call(marker), **_by_bytes(harm, f'touch {marker}')}


def _by_place(harm: Call) -> dict:
    """A call at each place of a checkpoint."""
    nested = {'state_dict': WEIGHTS, 'meta': {'epoch': [({'x': harm},)]}}
    hub = {**TRAINING, 'message_hub': {'log_scalars': {'loss': harm}}}
    return {
        'zip': lambda path: _saved({**TRAINING, 'more': harm}, path),
        'legacy': lambda path: _saved({**TRAINING, 'more': harm}, path, is_zip=False),
        'tar': lambda path: _tar({'state_dict': harm}, path),
        'alone': lambda path: _saved(harm, path),
        'a_weight': lambda path: _saved({'state_dict': {'a': harm}}, path),
        'in_meta': lambda path: _saved(nested, path),
        'in_the_optimizer': lambda path: _saved({**TRAINING, 'optimizer': {'state': harm}}, path),
        'in_the_logs': lambda path: _saved(hub, path),
        'a_key': lambda path: _saved({**TRAINING, harm: 1}, path),
    }


def _by_call(marker: Path) -> dict:
    """Each function that does harm, in a checkpoint."""
    inner = io.BytesIO()
    torch.save(Call(os.system, f'touch {marker}'), inner)
    python = f'open({str(marker)!r}, "w").close()'
    return {
        'exec': lambda path: _saved({**TRAINING, 'x': Call(exec, python)}, path),
        'eval': lambda path: _saved({**TRAINING, 'x': Call(eval, python)}, path),
        'open': lambda path: _saved({**TRAINING, 'x': Call(open, str(marker), 'w')}, path),
        'popen': lambda path: _saved(
            {**TRAINING, 'x': Call(subprocess.Popen, ['touch', str(marker)])}, path
        ),
        'getattr': lambda path: _saved(
            {**TRAINING, 'x': Call(Call(getattr, Path(marker), 'touch'))}, path
        ),
        'torch_load': lambda path: _saved(
            {**TRAINING, 'x': Call(torch.storage._load_from_bytes, inner.getvalue())}, path
        ),
        'torch_hub': lambda path: _saved(
            {**TRAINING, 'x': Call(torch.hub._load_local, _torch_hub(marker), 'x')}, path
        ),
        'torch_from_file': lambda path: _saved(
            {**TRAINING, 'x': Call(torch.from_file, str(marker), True, 4)}, path
        ),
        'torch_save': lambda path: _saved(
            {**TRAINING, 'x': Call(torch.save, 1, str(marker))}, path
        ),
    }


def _by_bytes(harm: Call, shell: str) -> dict:
    """Each way in which the bytes of a pickle name a function."""
    command = _text(shell)
    return {
        'getattr_of_a_module': lambda path: _zip_of(
            b'\x80\x02cbuiltins\ngetattr\ncbuiltins\n__import__\n(' + _text('os') + b'tR'
            + _text('system') + b'\x86R' + command + b'\x85R.', path,
        ),
        'dotted': lambda path: _zip_of(
            b'\x80\x04' + _text('pathlib') + _text('os.system') + b'\x93' + command
            + b'\x85R.', path,
        ),
        'dotted_torch': lambda path: _zip_of(
            b'\x80\x04' + _text('torch') + _text('serialization.os.system') + b'\x93' + command
            + b'\x85R.', path,
        ),
        'instance': lambda path: _zip_of(b'(' + command + b'ios\nsystem\n.', path),
        'object': lambda path: _zip_of(b'(cos\nsystem\n' + command + b'o.', path),
        'persistent_id': lambda path: _zip_of(
            b'\x80\x02cos\nsystem\n' + command + b'\x85RQ.', path
        ),
        'cut': lambda path: _zip_of(pickle.dumps(harm, 2)[:-1], path),
        **{
            f'legacy_{place}': lambda path, place=place: _legacy(path, place, harm)
            for place in range(5)
        },
        **{
            f'pickle_{protocol}': lambda path, protocol=protocol: _pickled(
                {'model': {'a': harm}}, path, protocol
            )
            for protocol in (0, 1, 2, 4, 5)
        },
    }  # fmt: skip
