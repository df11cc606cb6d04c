"""Weights come back as they were written, whatever the format."""

from __future__ import annotations

import argparse
import io
import pickle
import subprocess
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.logging.history_buffer import HistoryBuffer
from safetensors.torch import save, save_file

from cuts3d_mm.weights import read_state

STATE = OrderedDict(a=torch.arange(6.0).reshape(2, 3), b=torch.tensor(3))


def save_state(content, path, kind='zip'):
    torch.save(content, path, _use_new_zipfile_serialization=kind == 'zip')
    return str(path)


def training_checkpoint():
    history = HistoryBuffer()
    history.update(np.float64(1.5))
    history.update(2.5)
    hub = {'log_scalars': OrderedDict(loss=history), 'runtime_info': {'epoch': np.int64(2)}}
    network = torch.nn.Linear(2, 3)
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    return {
        'state_dict': network.state_dict(),
        'meta': {'iter': 3, 'epoch': 0, 'cfg': 'a = 1', 'classes': ('object',)},
        'message_hub': hub,
        'optimizer': optimizer.state_dict(),
        'args': argparse.Namespace(lr=0.1, out=Path('/x/y')),
        'config': ConfigDict(a=[1, {2, 3}], b=dict(c=2j)),
    }


def require_same(found, expected):
    if isinstance(expected, torch.Tensor):
        assert found.dtype == expected.dtype and torch.equal(found, expected)
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            require_same(found[key], value)
    elif isinstance(expected, (list, tuple)):
        assert type(found) is type(expected) and len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            require_same(one, other)
    else:
        assert found == expected


@pytest.mark.parametrize('kind', ['zip', 'legacy', 'safetensors'])
def test_a_state_dict_is_read_from_every_format(tmp_path, kind):
    path = tmp_path / 'weights'  # the content tells the format, not the name
    save_file(STATE, path) if kind == 'safetensors' else save_state(STATE, path, kind)
    require_same(read_state(str(path)).weights, dict(STATE))


@pytest.mark.parametrize('kind', ['zip', 'legacy'])
def test_a_training_checkpoint_comes_as_plain_data(tmp_path, kind):
    content = training_checkpoint()
    found = read_state(save_state(content, tmp_path / 'w.pth', kind)).content
    for key in ('state_dict', 'optimizer', 'meta'):
        require_same(found[key], content[key])
    assert found['state_dict']._metadata == content['state_dict']._metadata
    log = found['message_hub']['log_scalars']['loss']
    assert log.values.tolist() == [1.5, 2.5] and log.counts.tolist() == [1, 1]
    assert found['message_hub']['runtime_info'] == {'epoch': 2}
    assert found['args'] == {'lr': 0.1, 'out': '/x/y'}
    assert found['config'] == {'a': [1, {2, 3}], 'b': {'c': 2j}}


@pytest.mark.parametrize('kind', ['zip', 'legacy'])
def test_every_kind_of_tensor_keeps_its_values_and_its_sharing(tmp_path, kind, rng):
    base = torch.from_numpy(rng.integers(0, 2, (6, 4)))
    kinds = 'bool uint8 int8 int16 int32 int64 float16 bfloat16 float32 float64 complex64'
    state = {name: base.to(getattr(torch, name)) for name in kinds.split()}
    state |= {'turned': base.t(), 'part': base[1:3, ::2], 'none': base[:0], 'one': base[0, 0]}
    state['tied'] = state['float32']
    state['parameter'] = torch.nn.Parameter(torch.ones(2))
    found = read_state(save_state(state, tmp_path / 'w.pth', kind)).weights
    require_same(found, state)
    assert found['tied'].data_ptr() == found['float32'].data_ptr()
    assert found['turned'].data_ptr() == found['int64'].data_ptr()


@pytest.mark.skipif(not hasattr(torch, 'uint16'), reason='this PyTorch has no such tensors')
def test_tensors_of_new_kinds_are_read(tmp_path):
    state = {'a': torch.arange(5).to(torch.uint16), 'b': torch.ones(3).to(torch.float8_e4m3fn)}
    found = read_state(save_state(state, tmp_path / 'w.pth')).weights
    assert all(torch.equal(found[key].float(), state[key].float()) for key in state)


@pytest.mark.parametrize('protocol', [2, 3, 4, 5])
def test_arrays_of_detectron2_become_tensors(tmp_path, protocol, rng):
    arrays = {
        'a': rng.normal(size=(3, 4)).astype('f4'),
        'b': np.asfortranarray(rng.integers(0, 9, (2, 5))),
        'c': np.arange(3, dtype='>i4'),
        'd': np.array(2.5),
        'e': np.zeros((0, 3), bool),
    }
    (tmp_path / 'w.pkl').write_bytes(pickle.dumps({'model': arrays, 'by': 'me'}, protocol))
    found = read_state(str(tmp_path / 'w.pkl')).content
    assert found['by'] == 'me'
    for name, array in arrays.items():
        assert found['model'][name].numpy().tolist() == array.tolist()
        assert found['model'][name].numpy().dtype == array.dtype.newbyteorder('=')


@pytest.mark.parametrize('content', [{'state_dict': {'a': 1}}, {'a': 1}, {'state_dict': {}}])
def test_files_without_weights_are_refused(tmp_path, content):
    with pytest.raises(ValueError, match='must hold the weights of a network'):
        read_state(save_state(content, tmp_path / 'w.pth')).weights  # noqa: B018


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (b'', 'it is empty'),
        (b'<html>not found</html>', 'neither safetensors, nor a file of PyTorch'),
        (b'version https://git-lfs.github.com/spec/v1\noid', 'git lfs pull'),
        (b'x' * 257 + b'ustar\x00', 'a tar of a very old PyTorch'),
        (b'PK\x03\x04 and nothing', 'whole file of weights'),
        (b'\x80\x02', 'whole file of weights'),
        (b'\x08\0\0\0\0\0\0\0{broken}', 'whole file of weights'),
    ],
)
def test_what_is_no_file_of_weights_is_one_line(tmp_path, content, message):
    (tmp_path / 'w.pth').write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        read_state(str(tmp_path / 'w.pth'))
    assert '\n' not in str(error.value)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match='found none at'):
        read_state(str(tmp_path / 'gone.pth'))


CASES = 300
LIMIT_BYTES = 1 << 30  # of new memory
# In a process of its own, as a crash or a lack of memory ends it.
_READ_ALL = """
import resource, sys
from pathlib import Path
from cuts3d_mm.weights import read_state
pages = int(Path('/proc/self/statm').read_text().split()[0])
limit = pages * resource.getpagesize() + int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
read = 0
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        read += len(read_state(str(path)).content) > 0
    except ValueError as error:
        assert '\\n' not in str(error), path
print(read)
"""


def contents():
    """Valid files of each format, by name."""
    network = torch.nn.Linear(30, 20)
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.ones(1, 30)).sum().backward()
    optimizer.step()
    arrays = {'a': np.ones((3, 4), np.float32), 'b': np.arange(5)}
    training = {
        'state_dict': network.state_dict(),
        'optimizer': optimizer.state_dict(),
        'meta': {'iter': 3, 'classes': ('object',), 'score': np.float64(0.5), 'arrays': arrays},
    }
    new, old = io.BytesIO(), io.BytesIO()
    torch.save(training, new)
    torch.save(training, old, _use_new_zipfile_serialization=False)
    return {
        'zip': new.getvalue(),
        'legacy': old.getvalue(),
        'pickle': pickle.dumps({'model': arrays}, protocol=2),
        'safetensors': save(network.state_dict()),
    }


def damage(content, rng):
    """Flip a few bytes, most of them where the structure is told, or cut the end off."""
    data = bytearray(content)
    if rng.random() < 0.2:
        return bytes(data[: rng.integers(len(data))])
    for _ in range(rng.integers(1, 5)):
        place = rng.integers(len(data) if rng.random() < 0.3 else min(len(data), 1500))
        data[place] = rng.integers(256)
    return bytes(data)


def damage_pickle(content, rng):
    """The same within the pickle of a zip, whose checksum is right again."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(target, 'w') as copy:
        for name in archive.namelist():
            data = archive.read(name)
            copy.writestr(name, damage(data, rng) if name.endswith('data.pkl') else data)
    return target.getvalue()


@pytest.mark.slow
@pytest.mark.skipif(not Path('/proc/self/statm').exists(), reason='needs limits of Linux')
def test_damaged_files_are_refused_or_read(tmp_path, rng):
    valid = contents()
    for number in range(CASES):
        kind = ('zip', 'legacy', 'pickle', 'safetensors')[number % 4]
        harm = damage_pickle if kind == 'zip' and number % 8 else damage
        (tmp_path / f'{number:03d}_{kind}').write_bytes(harm(valid[kind], rng))
    command = [sys.executable, '-c', _READ_ALL, str(tmp_path), str(LIMIT_BYTES)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert 0 < int(done.stdout) < CASES
