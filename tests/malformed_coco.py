"""COCO JSON files that are wrong in one way each, made from a seed."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from drawn import disc
from pycocotools import mask as coco_mask

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
