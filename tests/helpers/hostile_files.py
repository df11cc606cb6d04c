"""Names, images, depth maps, COCO files and shards that are broken or made to do harm."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from helpers.drawn import disc
from PIL import Image
from pycocotools import mask as coco_mask

from cuts3d_mm.labels.record import ImageRecord, encode_instance
from cuts3d_mm.labels.store import write_shard

HW = (40, 56)
GOOD = ('a#b.png', 'sub/b.png')
CLIMBING = (  # {here} becomes the folder that holds the image folder
    '../secret.png', '../../secret.png', 'sub/../../secret.png', 'a/b/../../../secret.png',
    './../secret.png', '..', '../', '../..', 'sub/..', '..//secret.png', 'sub/../b.png',
    '../out/x.png', '../images/sub/b.png', 'x/../' * 40 + '../secret.png',
    '../' * 60 + 'etc/x.png',
    '..\\secret.png', 'a\\..\\..\\secret.png', 'a/..\\../secret.png', '..\\/secret.png',
    '\\..\\x.png',
    '{here}/secret.png', '/{here}/secret.png', '{here}/out/x.png', '/', '//', '/etc/passwd',
    '/dev/zero', '/dev/stdin', '/proc/self/environ', '/cuts3d_climbs.png',
    '/tmp/cuts3d_climbs.png',
    '//server/share/x.png', '\\\\server\\share\\x.png', '\\x.png', '\\\\?\\C:\\x.png',
    'C:\\x.png', 'C:/x.png', 'c:x.png', 'Z:', 'file:///etc/passwd', 'http://host/x.png',
    'hf://owner/name/x.png',
    '', '.', './', './.', '/.', 'sub/', 'sub//', 'sub/.',
    'a\x00.png', 'secret.png\x00.jpg', '\x00', 'a\nb.png', 'a\rb.png', '\t.png',
    '\x1b[2Jx.png', 'a\x7f.png', 'a\x9b31m.png',
    'x' * 300 + '.png', 'é' * 150 + '.png', '../' * 2000 + 'x.png',
)  # fmt: skip
NOT_UTF8 = ('a\udce9.png', '\ud800.png')  # a list or a JSON can hold them, a store cannot
# For these a command may refuse the whole JSON.
REFUSED_IN_JSON = ('', '../' * 2000 + 'x.png', 'a\udce9.png')


class Place:
    """A folder with images, and images outside of it that climbing names lead to."""

    def __init__(self, root: Path) -> None:
        self.here = root / 'user'
        self.images = self.here / 'images'
        self.out = self.here / 'out'
        rng = np.random.default_rng(0)
        for path in (*(self.images / name for name in GOOD), *self._secrets(root)):
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (*HW, 3), np.uint8)).save(path)
        self.names = tuple(name.replace('{here}', str(self.here)) for name in CLIMBING)
        self.names_in_json = tuple(n for n in self.names if n not in REFUSED_IN_JSON)
        self._root = root

    def _secrets(self, root: Path) -> tuple[Path, ...]:
        return self.here / 'secret.png', root / 'secret.png'

    def snapshot(self) -> dict[str, str]:
        """What lies outside of `out`."""
        paths = (path for path in self._root.rglob('*') if self.out not in (path, *path.parents))
        return {
            str(path): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ''
            for path in paths
        }

    def write_json(self, names) -> Path:
        """A COCO JSON of labels, next to the image folder."""
        code = coco_mask.encode(np.asfortranarray(_mask(), dtype=np.uint8))
        images = [
            {'id': number, 'file_name': name, 'height': HW[0], 'width': HW[1]}
            for number, name in enumerate(names, 1)
        ]
        annotations = [
            {
                'id': image['id'], 'image_id': image['id'], 'category_id': 1, 'iscrowd': 0,
                'bbox': coco_mask.toBbox(code).tolist(), 'area': int(coco_mask.area(code)),
                'segmentation': {'size': list(HW), 'counts': code['counts'].decode()},
            }
            for image in images
        ]  # fmt: skip
        content = {'images': images, 'annotations': annotations, 'categories': [{'id': 1}]}
        path = self.here / 'images.json'
        path.write_text(json.dumps(content))
        return path

    def write_store(self, names) -> Path:
        """A label store as somebody else may have made it."""
        found = encode_instance(_mask(), None, 0.9)
        store = self.here / 'store'
        store.mkdir()
        write_shard(store, 0, [ImageRecord(name, HW, (found,)) for name in sorted(names)])
        return store


def _mask() -> np.ndarray:
    mask = np.zeros(HW, bool)
    mask[10:30, 10:40] = True
    return mask


SIGNATURE = b'\x89PNG\r\n\x1a\n'


def _npy(array, **options):
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def _npy_header(descr, shape, version=b'\x01\x00'):
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b'\x93NUMPY' + version + struct.pack('<H', len(text)) + text


def _npz(*members, compression=zipfile.ZIP_DEFLATED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w', compression) as archive:
        for index, content in enumerate(members):
            archive.writestr(f'arr_{index}.npy', content)
    return file.getvalue()


def _chunk(kind, content):
    checksum = struct.pack('>I', zlib.crc32(kind + content))
    return struct.pack('>I', len(content)) + kind + content + checksum


def _png(width, height, content, depth=16, color=0):
    size = struct.pack('>IIBBBBB', width, height, depth, color, 0, 0, 0)
    return SIGNATURE + _chunk(b'IHDR', size) + _chunk(b'IDAT', content) + _chunk(b'IEND', b'')


def _png_of(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, 'PNG')
    return file.getvalue()


def _with(content, position, value):
    changed = bytearray(content)
    changed[position] = value
    return bytes(changed)


def _encrypted(archive):
    """Set the bit that says "encrypted" in both headers of the first member."""
    content = bytearray(archive)
    content[6] |= 1
    content[content.index(b'PK\x01\x02') + 8] |= 1
    return bytes(content)


def _corrupt(archive):
    """Destroy the start of the deflated stream of the first member."""
    content = bytearray(archive)
    start = (
        30 + struct.unpack_from('<H', content, 26)[0] + struct.unpack_from('<H', content, 28)[0]
    )
    content[start : start + 8] = b'\xff' * 8
    return bytes(content)


@cache
def hostile_depth_maps() -> dict[str, tuple[str, bytes]]:
    """Kind -> suffix and content; none of them can be used."""
    good = np.arange(1, 1201, dtype=np.float32).reshape(30, 40)
    deep = _png_of(good.astype(np.uint16))
    archive = _npz(_npy(good))
    pfm = b'Pf\n40 30\n-1\n' + good.tobytes()
    return {
        'empty file': ('.npy', b''),
        'png with a broken stream': ('.png', _png(40, 30, b'\x78\x9c' + b'\xff' * 50)),
        'png cut short': ('.png', deep[: len(deep) // 2]),
        'png that promises gigabytes': ('.png', _png(60_000, 60_000, zlib.compress(b'\0' * 99))),
        'png without a pixel': ('.png', _png(0, 30, zlib.compress(b''))),
        'png with colours': ('.png', _png_of(np.zeros((30, 40, 3), np.uint8))),
        'npy of objects': ('.npy', _npy(np.full((2, 2), {'a': 1}, object), allow_pickle=True)),
        'npy that promises gigabytes': ('.npy', _npy_header("'<f8'", (200_000, 200_000))),
        'npy that promises beyond 64 bits': ('.npy', _npy_header("'<f8'", (2**40, 2**40))),
        'npy cut short': ('.npy', _npy(good)[:-9]),
        'npy with one axis': ('.npy', _npy(good[0])),
        'npy with four axes': ('.npy', _npy(good[None, None])),
        'npy without a pixel': ('.npy', _npy(good[:0])),
        'npy of complex numbers': ('.npy', _npy(good.astype(np.complex64))),
        'npy of records': ('.npy', _npy(np.zeros((3, 4), [('x', 'f4')]))),
        'npy of text': ('.npy', _npy(np.full((3, 4), 'deep'))),
        'npy of NaN only': ('.npy', _npy(np.full((30, 40), np.nan))),
        'npy beyond 32-bit floats': ('.npy', _npy(np.full((30, 40), 1e300))),
        'npy with a nested header': ('.npy', _npy_header('-' * 9000 + '1', (3, 4))),
        'npy with a negative size': ('.npy', _npy_header("'<f4'", (-3, -4)) + bytes(48)),
        'npz cut short': ('.npz', archive[: len(archive) // 2]),
        'npz that is encrypted': ('.npz', _encrypted(archive)),
        'npz with a broken stream': ('.npz', _corrupt(archive)),
        'npz with a wrong checksum': ('.npz', _with(_npz(_npy(good), compression=0), 600, 7)),
        'npz of two arrays': ('.npz', _npz(_npy(good), _npy(good))),
        'npz without an array': ('.npz', _npz()),
        'npz of another file': ('.npz', _npz(b'not an array')),
        'npz of a rare compression': ('.npz', _npz(_npy(good), compression=zipfile.ZIP_LZMA)),
        'npz that promises gigabytes': ('.npz', _npz(_npy_header("'<f4'", (60_000, 60_000)))),
        'npz that unpacks to more than it says': ('.npz', _npz(_npy(good) + bytes(2**26))),
        'pfm that promises gigabytes': ('.pfm', b'Pf\n99999999 99999999\n-1\n' + bytes(64)),
        'pfm with a size in words': ('.pfm', b'Pf\nforty thirty\n-1\n' + good.tobytes()),
        'pfm with a long size': ('.pfm', b'Pf\n' + b'9' * 100_000),
        'pfm with colours': ('.pfm', b'PF\n40 30\n-1\n' + bytes(3 * 4800)),
        'pfm with a scale of 0': ('.pfm', b'Pf\n40 30\n0\n' + good.tobytes()),
        'pfm cut short': ('.pfm', pfm[:-5]),
    }


def write_hostile_depth(folder: Path, name: str, kind: str) -> None:
    """Put one of them in the place of the depth map of an image."""
    suffix, content = hostile_depth_maps()[kind]
    path = (folder / name).with_suffix(suffix)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


IMAGE_HW = (30, 44)
Document = dict[str, Any]
Rng = np.random.Generator
ODD_NUMBERS = (-1, 0, 0.5, 2**31, 2**53 + 1, 2**63, 1e12, -1e300, float('nan'), float('inf'))
ODD_VALUES = (*ODD_NUMBERS, True, None, '', 'text', '\x00', [], {}, [[]], [1], {'a': 1})


def document() -> Document:
    """Two images with four objects: run lengths in both forms, polygons, confidence."""
    height, width = IMAGE_HW
    images = [
        {'id': i + 1, 'file_name': f'{i}.png', 'height': height, 'width': width} for i in range(2)
    ]
    masks = [disc((9 + 3 * i, 12 + 4 * i), 6, IMAGE_HW) for i in range(4)]
    codes = [coco_mask.encode(np.asfortranarray(mask, np.uint8)) for mask in masks]
    annotations: list[Document] = []
    for index, (mask, code) in enumerate(zip(masks, codes, strict=True)):
        annotations.append(
            {
                'id': index + 1,
                'image_id': index // 2 + 1,
                'category_id': 1,
                'bbox': coco_mask.toBbox(code).tolist(),
                'area': int(mask.sum()),
                'iscrowd': 0,
                'score': 0.5,
                'segmentation': {'size': [height, width], 'counts': code['counts'].decode()},
            }
        )
    annotations[0]['confidence'] = confidence(bytes(range(6)))
    annotations[1]['segmentation']['counts'] = runs_of(masks[1])
    annotations[2]['segmentation'] = [[10, 8, 30, 9, 28.5, 22, 11, 20.25]]
    return {'images': images, 'annotations': annotations, 'categories': [{'id': 1, 'name': 'x'}]}


def confidence(content: bytes, /, **changes: Any) -> Document:
    packed = base64.b64encode(zlib.compress(content)).decode()
    return {'grid_hw': [4, 6], 'crop_xywh': [1, 1, 3, 2], 'values': packed} | changes


def runs_of(mask: np.ndarray) -> list[int]:
    pixels = np.concatenate([[0], mask.T.ravel(), [0]]).astype(np.int8)
    changes = np.flatnonzero(np.diff(pixels[:-1]))
    return np.diff(changes, prepend=0, append=mask.size).tolist()


def _entry(doc: Document, rng: Rng) -> Document:
    return doc[rng.choice(['images', 'annotations'])][int(rng.integers(2))]


def _wrong_value(doc: Document, rng: Rng) -> None:
    entry = _entry(doc, rng)
    entry[str(rng.choice(sorted(entry)))] = ODD_VALUES[int(rng.integers(len(ODD_VALUES)))]


def _missing_key(doc: Document, rng: Rng) -> None:
    entry = _entry(doc, rng)
    del entry[str(rng.choice(sorted(entry)))]


def _wrong_number(doc: Document, rng: Rng) -> None:
    annotation = doc['annotations'][int(rng.integers(4))]
    number = ODD_NUMBERS[int(rng.integers(len(ODD_NUMBERS)))]
    places: list[Callable[[], None]] = [
        lambda: annotation['bbox'].__setitem__(int(rng.integers(4)), number),
        lambda: doc['annotations'][2]['segmentation'][0].__setitem__(int(rng.integers(8)), number),
        lambda: doc['annotations'][1]['segmentation']['counts'].__setitem__(2, number),
        lambda: doc['annotations'][0]['segmentation']['size'].__setitem__(0, number),
        lambda: doc['annotations'][0]['confidence']['crop_xywh'].__setitem__(2, number),
        lambda: doc['annotations'][0]['confidence']['grid_hw'].__setitem__(1, number),
    ]
    places[int(rng.integers(len(places)))]()


def _broken_code(doc: Document, rng: Rng) -> None:
    segmentation = doc['annotations'][0]['segmentation']
    code = segmentation['counts']
    at = int(rng.integers(len(code)))
    garbage = ''.join(chr(int(c)) for c in rng.integers(48, 112, 40))
    changes = [code[:at], code + 'o', code[:at] + chr(int(rng.integers(33, 127))) + code[at + 1 :]]
    changes += [garbage, 'o' * 30, code[:at] + 'é' + code[at:], code + code, code[at:]]
    segmentation['counts'] = changes[int(rng.integers(len(changes)))]


def _broken_runs(doc: Document, rng: Rng) -> None:
    segmentation = doc['annotations'][1]['segmentation']
    runs, pixels = segmentation['counts'], IMAGE_HW[0] * IMAGE_HW[1]
    changes = [runs[1:], [*runs, 1], [pixels + 5, -5], [0] * 50_000, [pixels, 2**32], [10**9]]
    changes += [[pixels - 5, 10, -5], [], [[pixels]], [str(pixels)]]
    segmentation['counts'] = changes[int(rng.integers(len(changes)))]


def _broken_polygon(doc: Document, rng: Rng) -> None:
    changes: list[Any] = [[[1, 2, 3, 4]], [[1, 2, 3, 4, 5, 6, 7]], [[]], [], [[1e12] * 6]]
    changes += [[[0, 0, 5e8, 0, 5e8, 5e8]], [1, 2, 3, 4, 5, 6], [['a'] * 6], [[[1, 2]] * 3]]
    changes += [[[0, 0, 43, 29] * 60_000], [[1, 1, 2, 2, 3, 1]] * 5000, {}, 'polygon']
    changes += [{'size': [30, 44]}, {'counts': '0'}, {'size': [30], 'counts': '0'}]
    doc['annotations'][2]['segmentation'] = changes[int(rng.integers(len(changes)))]


def _broken_confidence(doc: Document, rng: Rng) -> None:
    changes: list[Any] = [
        confidence(bytes(5)),
        confidence(bytes(7)),
        confidence(bytes(2**26)),
        confidence(bytes(6), values='!!'),
        confidence(bytes(6), values=base64.b64encode(b'no zlib').decode()),
        confidence(bytes(6), crop_xywh=[4, 1, 3, 2]),
        confidence(bytes(6), crop_xywh=[-1, 1, 3, 2]),
        confidence(bytes(6), grid_hw=[0, 0]),
        confidence(b'', grid_hw=[32000, 32000], crop_xywh=[0, 0, 0, 0]),
        confidence(bytes(6), lower_bound=300),
        confidence(bytes(6), values=confidence(bytes(6))['values'][:9]),
        [],
        5,
    ]
    doc['annotations'][0]['confidence'] = changes[int(rng.integers(len(changes)))]


def _wrong_ids(doc: Document, rng: Rng) -> None:
    images, annotations = doc['images'], doc['annotations']
    changes: list[Callable[[], None]] = [
        lambda: images[1].update(id=images[0]['id']),
        lambda: annotations[1].update(id=annotations[0]['id']),
        lambda: annotations[1].update(image_id=99),
        lambda: (images[0].update(id=2**53 + 2), annotations[0].update(image_id=2**53 + 2)),
        lambda: annotations[1].update(image_id='1'),
        lambda: images[1].update(file_name=images[0]['file_name']),
        lambda: annotations[3].update(id=-(2**60)),
    ]
    changes[int(rng.integers(len(changes)))]()


def _wrong_size(doc: Document, rng: Rng) -> None:
    sizes = [(29, 44), (44, 30), (30, 45), (10**9, 10**9), (0, 44), (-30, -44), (2**31, 2), (1, 1)]
    height, width = sizes[int(rng.integers(len(sizes)))]
    image = doc['images'][int(rng.integers(2))]
    image.update(height=height, width=width)
    if rng.random() < 0.5:
        for annotation in doc['annotations']:
            if isinstance(annotation['segmentation'], dict):
                annotation['segmentation']['size'] = [height, width]


def _deep(doc: Document, rng: Rng) -> None:
    nested: Any = 1
    for _ in range(int(rng.choice([40, 900]))):
        nested = [nested] if rng.random() < 0.5 else {'a': nested}
    where = [doc, doc['images'][0], doc['annotations'][1]][int(rng.integers(3))]
    where[str(rng.choice(['info', 'segmentation', 'id', 'other']))] = nested


def _wrong_parts(doc: Document, rng: Rng) -> None:
    part = str(rng.choice(['images', 'annotations']))
    values = ({}, None, 5, 'text', [5], [None], [[]], [{}], {'0': doc[part][0]})
    if rng.random() < 0.2:
        del doc[part]
    else:
        doc[part] = values[int(rng.integers(len(values)))]


OF_THE_DOCUMENT = (
    _wrong_value,
    _missing_key,
    _wrong_number,
    _broken_code,
    _broken_runs,
    _broken_polygon,
    _broken_confidence,
    _wrong_ids,
    _wrong_size,
    _deep,
    _wrong_parts,
)


def _text(doc: Document, rng: Rng) -> bytes:
    """Change the text of a whole document."""
    text = json.dumps(doc).encode()
    at = int(rng.integers(1, len(text)))
    deep = b'[' * 10_000
    changes = [
        text[:at],
        text + text,
        text + b' x',
        text[:at] + bytes([int(rng.integers(256))]) + text[at + 1 :],
        text[:at] + text[at + int(rng.integers(1, 40)) :],
        b'',
        b'[' + text + b']',
        deep,
        text.replace(b'"area"', b'"a": ' + deep + b']' * 10_000 + b', "area"', 1),
        text.replace(b'"categories"', b'"a": ' + deep + b']' * 10_000 + b', "categories"', 1),
        text.decode().encode('utf-16'),
        text.replace(b'"id": 1', b'"id": 1, "id": 2', 1),
        text[:-1] + b', "annotations": []}',
        text.replace(b'0.png', b'\xff.png'),
        text.replace(b'"score": 0.5', b'"score": ' + b'9' * 5000, 1),
        text.replace(b'"score": 0.5', b'"score": 1e999', 1),
        b'\x00' * 100,
        text.replace(b'0.5', b'0.5' * 3),
    ]
    return changes[int(rng.integers(len(changes)))]


def malformed_files(seed: int, count: int) -> Iterator[tuple[str, bytes]]:
    """Name of what was changed, and the file; one in twenty is sound."""
    rng = np.random.default_rng(seed)
    for index in range(count):
        doc = document()
        if index % 20 == 0:
            yield 'sound', json.dumps(doc).encode()
        elif index % 4 == 0:
            yield 'text', _text(doc, rng)
        else:
            change = OF_THE_DOCUMENT[int(rng.integers(len(OF_THE_DOCUMENT)))]
            change(doc, rng)
            yield change.__name__.strip('_'), json.dumps(doc).encode()


def _flip(path, position):
    content = bytearray(path.read_bytes())
    content[position] ^= 16
    path.write_bytes(content)


def _rewrite(path, change):
    table = pq.read_table(path)
    pq.write_table(change(table), path)


def _first_page(path):
    """A position within the data of the names."""
    column = pq.read_metadata(path).row_group(0).column(0)
    first = min(column.data_page_offset, column.dictionary_page_offset or column.data_page_offset)
    return first + column.total_compressed_size - 3


DAMAGES = {
    'empty': lambda path: path.write_bytes(b''),
    'cut short': lambda path: path.write_bytes(path.read_bytes()[:-200]),
    'half': lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    'a flipped bit in a page': lambda path: _flip(path, _first_page(path)),
    'a flipped bit in the length of the footer': lambda path: _flip(path, path.stat().st_size - 7),
    'no parquet': lambda path: path.write_bytes(b'no parquet' * 99),
    'another table': lambda path: _rewrite(path, lambda t: pa.table({'name': ['x'], 'n': [1]})),
    'a column of another type': lambda path: _rewrite(
        path, lambda t: t.set_column(1, 'height', t['height'].cast(pa.float64()))
    ),
}
