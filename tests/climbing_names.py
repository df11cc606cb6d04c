"""Names that must not be used as paths, and a place where it shows if they are."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
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
