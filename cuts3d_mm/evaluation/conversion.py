"""Convert a data set to class-agnostic COCO JSON, one entry at a time."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Protocol

from cuts3d_mm.files.atomic import open_atomically, write_items
from cuts3d_mm.files.paths import BadName, open_regular, require_inside, shown
from cuts3d_mm.images.reading import ImageFailure, read_image_hw
from cuts3d_mm.labels.coco_json import CATEGORIES, CATEGORY_ID

ImageHW = tuple[int, int]
Box = tuple[float, float, float, float]  # x, y, width, height in pixels
_MIN_SIDE_PX = 1e-3  # narrower boxes have no area


@dataclass(frozen=True)
class SourceImage:
    """An image of a data set."""

    key: str  # name of the image in the annotations
    file_name: str  # relative to the image folder
    image_hw: ImageHW | None = None  # size in the annotations; None: they do not state it


@dataclass(frozen=True)
class SourceAnnotation:
    """An object of an image."""

    key: str  # key of the image
    box_xywh: Box  # may reach out of the image
    is_crowd: bool = False  # a region to ignore: a group, or objects without annotations
    segmentation: Any = None  # polygons or a run-length code of COCO; None: box only
    area: float | None = None  # area of the mask in pixels; None: take the area of the box


Report = Callable[[str, str], None]  # takes what is left out, a file or object, and the reason


class Source(Protocol):
    """An official data set on disk; what cannot be used is reported and left out."""

    @property
    def image_folder(self) -> Path:
        """Folder that the file names are relative to."""

    def images(self, report: Report) -> Iterator[SourceImage]:
        """Read the images, in a fixed order."""

    def annotations(
        self, sizes: Mapping[str, ImageHW], report: Report
    ) -> Iterator[SourceAnnotation]:
        """Read the objects, one at a time; `sizes` has the images that are used, by key."""


def require(path: Path, what: str) -> Path:
    """Check that a part of a data set exists.

    Raises:
        ValueError: the part is missing.
    """
    if not path.exists():
        raise ValueError(f'SRC must hold {what}, found nothing at {path}')
    return path


@dataclass
class Prepared:
    """Numbers of images and objects that were written, and of problems."""

    images: int = 0
    objects: int = 0
    crowds: int = 0  # regions to ignore
    clipped: int = 0  # boxes that reached out of their image
    problems: Counter[str] = field(default_factory=Counter)  # reason -> number


def prepare(source: Source, out: Path, info: dict[str, Any]) -> Prepared:
    """Convert a data set to a COCO JSON whose key `info` is given.

    The size of every image is read. An image that is missing, unreadable or of another size than
    annotated is left out with its objects. A file next to `out` lists the problems, a line each.
    """
    result, sizes = Prepared(), dict[str, ImageHW]()
    with (
        open_atomically(out) as file,
        open_atomically(out.with_suffix('.problems.jsonl')) as log,
    ):

        def report(where: str, reason: str) -> None:
            result.problems[reason] += 1
            line = {'where': where, 'reason': reason}
            log.write(json.dumps(line, ensure_ascii=False).encode() + b'\n')

        header = {'info': info, 'licenses': [], 'categories': CATEGORIES}
        file.write(json.dumps(header)[:-1].encode() + b',\n"images": [')
        result.images = write_items(file, _images(source, sizes, report))
        file.write(b'],\n"annotations": [')
        written = write_items(file, _annotations(source, sizes, report, result))
        result.objects = written - result.crowds
        file.write(b']}\n')
    return result


def _images(source: Source, sizes: dict[str, ImageHW], report: Report) -> Iterator[dict[str, Any]]:
    """Make entries of the images that can be used, and fill in their sizes.

    Ids of images are their places in the result, from 1.
    """
    for image in source.images(report):
        image_hw = _true_size(source.image_folder, image, report)
        if image_hw is not None:
            height, width = sizes[image.key] = image_hw
            entry = {'id': len(sizes), 'file_name': image.file_name}
            yield entry | {'height': height, 'width': width}


def _true_size(folder: Path, image: SourceImage, report: Report) -> ImageHW | None:
    where = shown(image.file_name)
    try:
        with open_regular(folder / require_inside(image.file_name)) as file:
            image_hw = read_image_hw(file)
    except BadName:
        report(where, 'image name leads out of the image folder')
    except FileNotFoundError:
        report(where, 'image is missing')
    except (OSError, ImageFailure):
        report(where, 'image cannot be read')
    else:
        if image.image_hw in (None, image_hw):
            return image_hw
        report(where, 'image is of another size than annotated')
    return None


def _annotations(
    source: Source, sizes: Mapping[str, ImageHW], report: Report, result: Prepared
) -> Iterator[dict[str, Any]]:
    ids = {key: image_id for image_id, key in enumerate(sizes, 1)}
    numbers = count(1)
    for annotation in source.annotations(sizes, report):
        if annotation.key not in sizes:
            report(annotation.key, 'object of an image that is not used')
            continue
        box = _clip(annotation, sizes[annotation.key], report)
        if box is None:
            continue
        _, _, width, height = box
        result.clipped += box != annotation.box_xywh
        result.crowds += annotation.is_crowd
        entry = {
            'id': next(numbers),
            'image_id': ids[annotation.key],
            'category_id': CATEGORY_ID,
            'bbox': [round(value, 3) for value in box],
            'area': round(width * height if annotation.area is None else annotation.area, 3),
            'iscrowd': int(annotation.is_crowd),
        }
        if annotation.segmentation is not None:
            entry['segmentation'] = annotation.segmentation
        yield entry


def _clip(annotation: SourceAnnotation, image_hw: ImageHW, report: Report) -> Box | None:
    """Clip the box of an object to its image; None if nothing of it is left."""
    left, top, width, height = annotation.box_xywh
    if not min(width, height) > _MIN_SIDE_PX:  # also if a side is not a number
        report(annotation.key, 'box without area')
        return None
    right, bottom = min(left + width, image_hw[1]), min(top + height, image_hw[0])
    left, top = max(left, 0.0), max(top, 0.0)
    box = left, top, right - left, bottom - top
    if min(box[2:]) <= _MIN_SIDE_PX:
        report(annotation.key, 'box outside of the image')
        return None
    if max(abs(a - b) for a, b in zip(box, annotation.box_xywh, strict=True)) < _MIN_SIDE_PX:
        return annotation.box_xywh
    return box
