"""Files that describe what no network has: refused in one line, without a crash or much memory."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch

from cuts3d_mm.weights import read_state, unpickling

MARK, STOP = b'(', b'.'


def text(value):
    data = value.encode()
    return b'X' + struct.pack('<I', len(data)) + data


def number(value):
    data = value.to_bytes(9, 'little', signed=True)
    return b'\x8a' + bytes([len(data)]) + data


def numbers(values):
    return MARK + b''.join(number(value) for value in values) + b't'


def tensor(offset=0, size=(2, 3), stride=(3, 1), count=6, kind='FloatStorage', key='0'):
    """The pickle of a tensor in the storage `key`."""
    storage = MARK + text('storage') + f'ctorch\n{kind}\n'.encode() + text(key) + text('cpu')
    return (
        b'ctorch._utils\n_rebuild_tensor_v2\n' + MARK + storage + number(count) + b'tQ'
        + number(offset) + numbers(size) + numbers(stride) + b'\x89}tR'
    )  # fmt: skip


def write(path, pickled, records=None, compression=zipfile.ZIP_STORED):
    records = {'data/0': bytes(24)} if records is None else records
    with zipfile.ZipFile(path, 'w', compression) as archive:
        archive.writestr('archive/data.pkl', b'\x80\x02}' + text('a') + pickled + b's' + STOP)
        for name, content in records.items():
            archive.writestr(f'archive/{name}', content)
    return str(path)


def require_refusal(location, match='must be a whole file of weights'):
    with pytest.raises(ValueError, match=match) as error:
        read_state(location)
    assert '\n' not in str(error.value) and len(str(error.value)) < 700


def test_the_tensor_itself_is_read(tmp_path):
    assert read_state(write(tmp_path / 'w.pth', tensor())).weights['a'].shape == (2, 3)


@pytest.mark.parametrize(
    'changes',
    [
        {'offset': 1},
        {'offset': -1},
        {'offset': 1 << 62},
        {'size': (3, 3)},
        {'size': (2, -3)},
        {'size': (1 << 40, 1 << 40)},
        {'size': (1 << 62,), 'stride': (0,)},
        {'size': (1 << 31,) * 4, 'stride': (0,) * 4},
        {'stride': (4, 1)},
        {'stride': (-3, 1)},
        {'stride': (1 << 62, 1 << 62)},
        {'stride': (3,)},
        {'size': (1,) * 100, 'stride': (1,) * 100},
        {'size': (0, 1 << 61)},
        {'count': 7},
        {'count': 1 << 50},
        {'count': -6},
        {'kind': 'DoubleStorage'},
        {'kind': 'BoolStorage'},
        {'kind': 'QInt8Storage'},
        {'kind': 'float32'},
        {'kind': 'Size'},
        {'key': '1'},
        {'key': '../../etc/passwd'},
    ],
)
def test_tensors_outside_their_storage_are_refused(tmp_path, changes):
    require_refusal(write(tmp_path / 'w.pth', tensor(**changes)))


@pytest.mark.parametrize(
    'pickled',
    [
        tensor()[:-1] + b'\x85R',
        MARK + tensor() + tensor(kind='IntStorage') + b't',
        b'ctorch._utils\n_rebuild_parameter\n' + number(1) + b'\x85R',
        b'ctorch._utils\n_rebuild_tensor_v2\n)R',
        b'ctorch._utils\n_rebuild_tensor_v2\n' + numbers([1, 2, 3, 4]) + b'R',
        b'ctorch._utils\n_rebuild_tensor_v3\n' + numbers(range(7)) + b'R',
        text('storage') + b'Q',
        b'ctorch\nFloatStorage\n',
        b'ctorch\nFloatStorage\n)R',
        b'ccollections\nOrderedDict\n' + numbers([1]) + b'R',
        b'ccollections\nOrderedDict\n}\x85R' + number(1) + b'b',
        b'cargparse\nNamespace\n',
        b'N' + b'N' + b'a',
        b'}' + number(1 << 61) + b'Ns',
        b'})\x85Ns',
        b'}G' + struct.pack('>d', 1.5) + b'Ns',
        b']q\x00h\x00a',
        b']' * 301 + b'a' * 300,
        b'h\x63',
        b'R',
        b't',
        b'\x82\x01',
        b'\x97',
        b'r\xff\xff\xff\xff' + b'h\xff',
        b'I' + b'9' * 5000 + b'\n',
    ],
)
def test_pickles_that_are_no_data_are_refused(tmp_path, pickled):
    require_refusal(write(tmp_path / 'w.pth', pickled))


def test_containers_that_grow_without_an_end_are_refused(tmp_path):
    grown = b']q\x00' + b''.join(
        b']' + b''.join(b'h' + bytes([level]) + b'a' for _ in range(9)) + b'q' + bytes([level + 1])
        for level in range(12)
    )
    require_refusal(write(tmp_path / 'w.pth', MARK + grown + b't'), 'containers in one another')


@pytest.mark.slow
def test_nested_keys_are_refused_before_they_are_hashed(tmp_path):
    deep = b')' + b'\x85' * 200_000
    require_refusal(write(tmp_path / 'w.pth', b'}' + deep + b'Ns'), 'a tuple as a key')
    require_refusal(write(tmp_path / 'w.pth', deep + deep + b'\x93'), 'something without a name')


def test_long_keys_are_refused_before_they_are_hashed_again_and_again(tmp_path):
    many = MARK + b'K\x01' * 100 + b't' + b'q\x00' + b'0' + b'}' + b'h\x00Ns' * 10
    require_refusal(write(tmp_path / 'w.pth', many), 'a key of 100 parts')


def test_many_views_of_one_storage_are_refused(tmp_path):
    require_refusal(
        write(tmp_path / 'w.pth', MARK + tensor() * 9 + b't'), '8 times what it stores'
    )
    read_state(write(tmp_path / 'w.pth', MARK + tensor() * 8 + b't'))


def test_the_number_of_steps_is_limited(tmp_path, monkeypatch):
    monkeypatch.setattr(unpickling, 'MOST_OPCODES', 1000)
    require_refusal(write(tmp_path / 'w.pth', b']' + b'N' * 2000), 'more than 1,000 steps')


@pytest.mark.parametrize('size', [1 << 31, 1 << 62])
def test_lengths_beyond_the_file_are_not_reserved(tmp_path, size):
    for opcode in (b'\x8e', b'\x8d', b'\x96'):  # bytes, text, bytearray
        require_refusal(write(tmp_path / 'w.pth', opcode + struct.pack('<Q', size) + b'x'))


def test_compressed_records_are_refused(tmp_path):
    path = write(tmp_path / 'w.pth', tensor(), compression=zipfile.ZIP_DEFLATED)
    require_refusal(path, 'compressed, encrypted or overlapping')


def test_records_that_share_their_bytes_are_refused(tmp_path):
    path = tmp_path / 'w.pth'
    write(path, tensor(), {'data/0': bytes(10_000), 'data/1': b''})
    content = path.read_bytes()
    before, *entries = content.split(b'PK\x01\x02')  # of the directory
    first = entries[1]
    entries[2] = first.replace(b'/data/0', b'/data/1') + entries[2][len(first) :]
    path.write_bytes(b'PK\x01\x02'.join([before, *entries]))
    require_refusal(str(path), 'compressed, encrypted or overlapping')


@pytest.mark.parametrize('records', [{}, {'data/0': bytes(23)}, {'byteorder': b'big'}])
def test_records_that_are_missing_or_of_another_size_are_refused(tmp_path, records):
    require_refusal(write(tmp_path / 'w.pth', tensor(), records))


def test_storages_larger_than_an_old_file_are_not_reserved(tmp_path):
    buffer = io.BytesIO()
    torch.save({'a': torch.ones(3)}, buffer, _use_new_zipfile_serialization=False)
    huge = buffer.getvalue().replace(b'cpuq\x06K\x03', b'cpuq\x06' + number(1 << 40))
    assert huge != buffer.getvalue()
    (tmp_path / 'w.pth').write_bytes(huge)
    require_refusal(str(tmp_path / 'w.pth'), 'larger than the file')


def test_calls_that_copy_the_same_text_or_container_again_and_again_are_refused(
    tmp_path, monkeypatch
):
    encode = b'c_codecs\nencode\nq\x010' + text('x' * 10_000) + text('latin1') + b'\x86q\x020'
    require_refusal(
        write(tmp_path / 'w.pth', MARK + encode + b'h\x01h\x02R' * 200 + b't'),
        'more than 8 times as large as the file',
    )
    monkeypatch.setattr(unpickling, 'MOST_OPCODES', 20_000)
    pairs = b''.join(b'K' + bytes([key]) + b'N\x86' for key in range(256))
    items = b'ccollections\nOrderedDict\nq\x010](' + pairs + b'e\x85q\x020'
    require_refusal(
        write(tmp_path / 'w.pth', MARK + items + b'h\x01h\x02R' * 200 + b't'),
        'more than 20,000 items',
    )


def array(**changes):
    parts = {
        'kind': b'cnumpy\ndtype\n' + text('f4') + b'\x85R',
        'state': MARK + number(3) + text('<') + b'NNN' + number(-1) * 2 + number(0) + b'tb',
        'shape': numbers([2]),
        'content': b'U\x08' + bytes(8),
    } | changes  # fmt: skip
    begin = b'cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n' + numbers([0]) + text('b')
    dtype = parts['kind'] + parts['state']
    state = MARK + number(1) + parts['shape'] + dtype + b'\x89' + parts['content'] + b'tb'
    return begin + b'\x87R' + state


def array_pickle(**changes):
    return b'\x80\x02}' + text('a') + array(**changes) + b's.'


def test_many_arrays_of_the_same_bytes_are_refused(tmp_path):
    content = b'T' + struct.pack('<I', 10_000) + bytes(10_000) + b'q\x000'
    kind = b'cnumpy\ndtype\n' + text('u1') + b'\x85R'
    same = array(kind=kind, shape=numbers([10_000]), content=b'h\x00')
    pickled = b'\x80\x02' + content + b'}' + text('a') + MARK + same * 200 + b'ts.'
    (tmp_path / 'w.pkl').write_bytes(pickled)
    require_refusal(str(tmp_path / 'w.pkl'), 'more than 8 times as large as the file')


def test_an_array_is_read(tmp_path):
    (tmp_path / 'w.pkl').write_bytes(array_pickle())
    assert read_state(str(tmp_path / 'w.pkl')).weights['a'].tolist() == [0, 0]


@pytest.mark.parametrize(
    'changes',
    [
        {'kind': b'cnumpy\ndtype\n' + text('O8') + b'\x85R'},
        {'kind': b'cnumpy\ndtype\n' + text('V8') + b'\x85R'},
        {'kind': b'cnumpy\ndtype\n' + text('f4,O') + b'\x85R'},
        {'kind': b'cnumpy\ndtype\n]\x85R'},
        {'kind': b'cnumpy\nndarray\n)R', 'state': b''},
        {'state': MARK + number(3) + text('|') + b'N' + numbers([1]) + b'Ntb'},
        {'state': MARK + number(3) + text('O') + b'NNNtb'},
        {'state': b'Nb'},
        {'shape': numbers([3])},
        {'shape': numbers([-2])},
        {'shape': numbers([1 << 62, 1 << 62])},
        {'shape': numbers([0, 1 << 62])},
        {'shape': numbers([1] * 40)},
        {'shape': b'N'},
        {'content': b'U\x07' + bytes(7)},
        {'content': b']'},
        {'content': b']' + number(1) + b'a'},
        {'content': b'N'},
    ],
)
def test_arrays_that_numpy_would_crash_on_are_refused(tmp_path, changes):
    (tmp_path / 'w.pkl').write_bytes(array_pickle(**changes))
    require_refusal(str(tmp_path / 'w.pkl'))


class State:
    def __init__(self, *parts):
        self.parts = parts

    def __reduce__(self):
        return self.parts


@pytest.mark.parametrize(
    'content',
    [
        np.array([{}, []], dtype=object),
        np.zeros(3, dtype=[('a', 'f4'), ('b', 'O')]),
        np.array(['a', 'b']),
        State(np.dtype, ('f8',), (3, '<', None, None, 1 << 60, -1, -1, 0)),
        State(np.core.multiarray._reconstruct if np.__version__ < '2' else np.zeros, (1,)),
        State(OrderedDict, ([[1, 2, 3]],)),
    ],
)
def test_other_objects_of_numpy_are_refused(tmp_path, content):
    (tmp_path / 'w.pkl').write_bytes(pickle.dumps({'model': {'a': content}}, protocol=4))
    with pytest.raises(ValueError) as error:
        read_state(str(tmp_path / 'w.pkl')).weights  # noqa: B018
    assert '\n' not in str(error.value)
