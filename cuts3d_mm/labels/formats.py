"""Write a label store as a folder of another tool: YOLO polygons, labelme JSON, Pascal VOC PNG."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask
from scipy.spatial import cKDTree

from cuts3d_mm.arrays import Double
from cuts3d_mm.files.atomic import make_folder_atomically, write_whole
from cuts3d_mm.files.paths import BadName, path_inside, path_to_write
from cuts3d_mm.files.remote import Place

from .coco import Exported, class_of, mask_polygons
from .coco_json import ANY_OBJECT
from .record import ImageRecord, InstanceRecord, decode_mask, with_safe_name
from .store import read_store, shard_paths

Classes = Mapping[str, int]  # name of a class -> its number, from 0
MOST_VOC_OBJECTS = 254  # 8 bits, in which 0 is the background and 255 is void
_SUFFIX = re.compile(r'(?<=[^/])\.[A-Za-z0-9]+$')  # frames of videos, CLIP.mp4#000001, keep theirs


def export_folder(store: Place, out: Path, form: str, images: Path | None = None) -> Exported:
    """Write the labelled images of a store whose names stay in the image folder.

    Args:
        store: label store.
        out: folder to write, which must not exist yet.
        form: 'yolo-seg', 'labelme' or 'voc-png'.
        images: folder of the images. YOLO gets links to them, or copies where there are no
            links; labelme gets their paths. None: they are to be put into `out` later.

    Raises:
        ValueError: `store` is no label store, or a class cannot be written in this form.
        FileExistsError: `out` exists.
    """
    shard_paths(store)  # an error names the store before anything is written
    write, num_images = _FORMS[form], 0
    names = {class_of(one) for record in read_store(store) for one in record.instances}
    classes = {name: number for number, name in enumerate(sorted(names or {ANY_OBJECT}))}
    is_voc = form == 'voc-png'
    odd = [name for name in classes if not name.isprintable() or (is_voc and ':' in name)]
    if odd:
        raise ValueError(f'classes must be printable, for voc-png without a colon, got {odd[0]!r}')
    if is_voc and len(classes) > MOST_VOC_OBJECTS:
        raise ValueError(f'voc-png holds {MOST_VOC_OBJECTS} classes at most, got {len(classes)}')
    refused: list[str] = []
    taken: dict[str, str] = {}  # name without suffix -> name
    with make_folder_atomically(out) as folder:
        for record in read_store(store):
            checked = with_safe_name(record)
            if record.failure is not None:
                continue
            stem = _SUFFIX.sub('', record.name)
            try:
                if checked.failure is not None:
                    raise BadName(checked.failure)
                if stem in taken:
                    raise BadName(
                        f'{record.name} must differ from {taken[stem]} in more than its suffix; '
                        'rename the image'
                    )
                image = None if images is None else path_inside(images, record.name)
                if image is not None and not image.is_file():
                    raise BadName(f'image must exist, found no {image}')
                left_out = write(folder, out, stem, record, image, classes)
            except BadName as reason:
                refused.append(str(reason))
                continue
            taken[stem] = record.name
            num_images += 1
            if left_out:
                refused.append(f'{left_out} objects of {record.name}, those of the lowest score')
        _write_lists(folder, form, list(taken), list(classes))
    return Exported(num_images, tuple(refused))


def _join_parts(polygons: list[list[float]]) -> Double:
    """Join polygons to one, (N, 2), each at the points where they lie nearest to each other."""
    joined, *others = (np.reshape(polygon, (-1, 2)) for polygon in polygons)
    for part in others:
        distances, places = cKDTree(joined).query(part)
        start = int(distances.argmin())
        place = int(places[start])
        part = np.roll(part, -start, axis=0)
        detour = [joined[: place + 1], part, part[:1], joined[place:]]
        joined = np.concatenate(detour)
    return joined


def voc_palette() -> NDArray[np.uint8]:
    """Colours of Pascal VOC, (256, 3) RGB: the bits of a number in turn, highest bit first."""
    numbers = np.arange(256)[:, None, None]
    bits = numbers >> (3 * np.arange(8)[None, :, None] + np.arange(3)) & 1  # (256, 8, 3)
    return (bits << (7 - np.arange(8))[None, :, None]).sum(axis=1).astype(np.uint8)


def _with_area(record: ImageRecord) -> list[InstanceRecord]:
    size = list(record.image_hw)
    codes = [{'size': size, 'counts': one.rle} for one in record.instances]
    areas = [int(coco_mask.area(code)) for code in codes]  # stored areas may be wrong
    return [one for one, area in zip(record.instances, areas, strict=True) if area]


def _write_yolo(
    folder: Path, out: Path, stem: str, record: ImageRecord, image: Path | None, classes: Classes
) -> int:
    lines = []
    for one in _with_area(record):
        # YOLO has one polygon for an object: parts are joined by double lines, as holes are.
        outline = _join_parts(mask_polygons(decode_mask(one, record.image_hw)))
        shares = np.clip(outline / record.image_hw[::-1], 0, 1).ravel()
        lines.append(
            ' '.join([str(classes[class_of(one)]), *(f'{share:.6f}' for share in shares)])
        )
    # Where the path of an image has its last folder `images`, YOLO looks for `labels`.
    before, _, after = f'/images/{stem}'.rpartition('/images/')
    target = path_to_write(folder, f'{before}/labels/{after}.txt'[1:])
    if image is not None:
        link = path_to_write(folder / 'images', record.name)
        try:
            link.symlink_to(os.path.realpath(image))
        except (OSError, NotImplementedError):  # a file system without links
            shutil.copyfile(image, link)
    target.write_text(''.join(f'{line}\n' for line in lines))
    return 0


def _write_labelme(
    folder: Path, out: Path, stem: str, record: ImageRecord, image: Path | None, classes: Classes
) -> int:
    path = PurePosixPath(record.name).name
    if image is not None:
        start = (out / f'{stem}.json').parent
        path = Path(os.path.relpath(os.path.realpath(image), os.path.realpath(start))).as_posix()
    shapes: list[dict[str, object]] = []
    for number, instance in enumerate(_with_area(record), start=1):
        polygons = mask_polygons(decode_mask(instance, record.image_hw))
        shapes += [
            {
                'label': class_of(instance),
                'points': np.reshape(polygon, (-1, 2)).tolist(),
                'group_id': number if len(polygons) > 1 else None,  # parts of one object
                'description': '',
                'shape_type': 'polygon',
                'flags': {},
                'mask': None,
                'score': round(float(instance.score), 6),
            }
            for polygon in polygons
        ]
    content: dict[str, object] = {
        'version': '5.5.0',
        'flags': {},
        'shapes': shapes,
        'imagePath': path,
        'imageData': None,
        'imageHeight': record.image_hw[0],
        'imageWidth': record.image_hw[1],
    }
    path_to_write(folder, f'{stem}.json').write_text(json.dumps(content))
    return 0


def _write_voc(
    folder: Path, out: Path, stem: str, record: ImageRecord, image: Path | None, classes: Classes
) -> int:
    kinds, objects = np.zeros((2, *record.image_hw), np.uint8)  # 0: background
    best = sorted(_with_area(record), key=lambda one: -one.score)
    for number, instance in reversed(list(enumerate(best[:MOST_VOC_OBJECTS], start=1))):
        mask = decode_mask(instance, record.image_hw)  # the best lies on top
        kinds[mask], objects[mask] = 1 + classes[class_of(instance)], number
    for place, pixels in (('SegmentationClass', kinds), ('SegmentationObject', objects)):
        picture = Image.fromarray(pixels)
        picture.putpalette(voc_palette().tobytes())
        picture.save(path_to_write(folder / place, f'{stem}.png'))
    return max(len(best) - MOST_VOC_OBJECTS, 0)


def _write_lists(folder: Path, form: str, stems: list[str], classes: list[str]) -> None:
    """Write what a format says of all images at once."""
    if form == 'yolo-seg':
        names = json.dumps(classes, ensure_ascii=False)  # a list in JSON is one in YAML
        write_whole(folder / 'data.yaml', f'train: images\nval: images\nnames: {names}\n')
        for name in ('images', 'labels'):
            (folder / name).mkdir(exist_ok=True)
    elif form == 'voc-png':
        colors = enumerate(voc_palette()[: len(classes) + 1].tolist())
        rows = [f'{("background", *classes)[i]}:{",".join(map(str, c))}::' for i, c in colors]
        lines = '\n'.join(['# label:color_rgb:parts:actions', *rows, ''])
        write_whole(folder / 'labelmap.txt', lines)
        listing = path_to_write(folder, 'ImageSets/Segmentation/default.txt')
        write_whole(listing, ''.join(f'{stem}\n' for stem in stems))


_FORMS: dict[str, Callable[[Path, Path, str, ImageRecord, Path | None, Classes], int]] = {
    'yolo-seg': _write_yolo,
    'labelme': _write_labelme,
    'voc-png': _write_voc,
}
