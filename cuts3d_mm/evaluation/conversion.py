"""Convert a data set to class-agnostic COCO JSON, one entry at a time."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, Protocol

from cuts3d_mm.files.atomic import open_atomically
from cuts3d_mm.files.paths import BadName, open_regular, require_inside, shown
from cuts3d_mm.images.reading import ImageFailure, read_image_hw
from cuts3d_mm.labels.coco_json import CATEGORIES, CATEGORY_ID

ImageHW = tuple[int, int]
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
    box_xywh: tuple[float, float, float, float]  # pixels, may reach out of the image
    is_crowd: bool = False  # a region to ignore: a group, or objects without annotations
    segmentation: Any = None  # polygons or a run-length code of COCO; None: box only
    area: float | None = None  # area of the mask in pixels; None: take the area of the box


@dataclass(frozen=True)
class Problem:
    """An image or annotation that is left out, and the reason."""

    where: str  # file, image or annotation
    reason: str


class Source(Protocol):
    """An official data set on disk."""

    @property
    def image_folder(self) -> Path:
        """Folder that the file names are relative to."""

    def images(self) -> Iterator[SourceImage | Problem]:
        """Read the images, in a fixed order."""

    def annotations(self, sizes: Mapping[str, ImageHW]) -> Iterator[SourceAnnotation | Problem]:
        """Read the objects, one at a time.

        Args:
            sizes: key -> true size, for the images that are used.
        """


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
    """Convert a data set.

    The size of every image is read. An image that is missing, unreadable or of another size than
    annotated is left out with its objects. A file next to `out` lists the problems, a line each.

    Args:
        source: data set.
        out: COCO JSON to write.
        info: content of its key `info`.
    """
    result = Prepared()
    with (
        open_atomically(out) as file,
        open_atomically(out.with_suffix('.problems.jsonl')) as log,
    ):
        report = _Report(log, result)
        header = {'info': info, 'licenses': [], 'categories': CATEGORIES}
        file.write(json.dumps(header)[:-1].encode() + b',\n"images": [')
        sizes = _write_images(file, source, report)
        file.write(b'],\n"annotations": [')
        _write_annotations(file, source, sizes, report)
        file.write(b']}\n')
    return result


class _Report:
    def __init__(self, log: IO[bytes], result: Prepared) -> None:
        self._log = log
        self.result = result

    def add(self, problem: Problem) -> None:
        self.result.problems[problem.reason] += 1
        line = {'where': problem.where, 'reason': problem.reason}
        self._log.write(json.dumps(line, ensure_ascii=False).encode() + b'\n')


def _write_images(file: IO[bytes], source: Source, report: _Report) -> dict[str, ImageHW]:
    """Write the images that can be used; their ids are their places in the result, from 1."""
    sizes: dict[str, ImageHW] = {}
    for image in source.images():
        if isinstance(image, Problem):
            report.add(image)
            continue
        image_hw = _check_image(source.image_folder, image)
        if isinstance(image_hw, Problem):
            report.add(image_hw)
            continue
        sizes[image.key] = image_hw
        entry = {'id': len(sizes), 'file_name': image.file_name}
        size = dict(zip(('height', 'width'), image_hw, strict=True))
        _write_item(file, entry | size, len(sizes))
    report.result.images = len(sizes)
    return sizes


def _check_image(folder: Path, image: SourceImage) -> ImageHW | Problem:
    """Read the true size of an image, or say why it cannot be used."""
    try:
        with open_regular(folder / require_inside(image.file_name)) as file:
            image_hw = read_image_hw(file)
    except BadName:
        return Problem(shown(image.file_name), 'image name leads out of the image folder')
    except FileNotFoundError:
        return Problem(image.file_name, 'image is missing')
    except (OSError, ImageFailure):
        return Problem(image.file_name, 'image cannot be read')
    if image.image_hw not in (None, image_hw):
        return Problem(image.file_name, 'image is of another size than annotated')
    return image_hw


def _write_annotations(
    file: IO[bytes], source: Source, sizes: dict[str, ImageHW], report: _Report
) -> None:
    ids = {key: image_id for image_id, key in enumerate(sizes, 1)}
    written = 0
    for annotation in source.annotations(sizes):
        clipped = annotation
        if isinstance(annotation, SourceAnnotation):
            clipped = _clip(annotation, sizes.get(annotation.key))
        if isinstance(clipped, Problem):
            report.add(clipped)
            continue
        written += 1
        report.result.clipped += clipped is not annotation
        report.result.crowds += clipped.is_crowd
        _write_item(file, _entry(clipped, written, ids[clipped.key]), written)
    report.result.objects = written - report.result.crowds


def _clip(annotation: SourceAnnotation, image_hw: ImageHW | None) -> SourceAnnotation | Problem:
    """Clip an object to its image, or say why it cannot be used."""
    if image_hw is None:
        return Problem(annotation.key, 'object of an image that is not used')
    left, top, width, height = annotation.box_xywh
    if not min(width, height) > _MIN_SIDE_PX:  # also if a side is not a number
        return Problem(annotation.key, 'box without area')
    right, bottom = min(left + width, image_hw[1]), min(top + height, image_hw[0])
    left, top = max(left, 0.0), max(top, 0.0)
    if right - left <= _MIN_SIDE_PX or bottom - top <= _MIN_SIDE_PX:
        return Problem(annotation.key, 'box outside of the image')
    box = left, top, right - left, bottom - top
    if max(abs(a - b) for a, b in zip(box, annotation.box_xywh, strict=True)) < _MIN_SIDE_PX:
        return annotation
    return replace(annotation, box_xywh=box)


def _entry(annotation: SourceAnnotation, number: int, image_id: int) -> dict[str, Any]:
    _, _, width, height = annotation.box_xywh
    entry = {
        'id': number,
        'image_id': image_id,
        'category_id': CATEGORY_ID,
        'bbox': [round(value, 3) for value in annotation.box_xywh],
        'area': round(width * height if annotation.area is None else annotation.area, 3),
        'iscrowd': int(annotation.is_crowd),
    }
    if annotation.segmentation is not None:
        entry['segmentation'] = annotation.segmentation
    return entry


def _write_item(file: IO[bytes], item: dict[str, Any], number: int) -> None:
    file.write((',\n' if number > 1 else '\n').encode() + json.dumps(item).encode())
