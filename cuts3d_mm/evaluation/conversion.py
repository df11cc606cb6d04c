"""Convert data sets to class-agnostic COCO JSON, one entry at a time."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

from PIL import Image, UnidentifiedImageError

from cuts3d_mm.files.atomic import open_atomically
from cuts3d_mm.files.paths import BadName, open_regular, require_inside, shown
from cuts3d_mm.labels.coco_json import CATEGORIES, CATEGORY_ID

ImageHW = tuple[int, int]
_MIN_SIDE_PX = 1e-3  # narrower boxes have no area


@dataclass(frozen=True)
class SourceImage:
    """One image of a data set."""

    key: str  # what the annotations call it
    file_name: str  # relative to the image folder
    image_hw: ImageHW | None = None  # as the annotations state it; None where they do not


@dataclass(frozen=True)
class SourceAnnotation:
    """One object of an image."""

    key: str  # of the image
    box_xywh: tuple[float, float, float, float]  # pixels, may reach out of the image
    is_crowd: bool = False  # a region to ignore: a group, or what was not annotated
    segmentation: Any = None  # polygons or a run-length code of COCO; None: box only
    area: float | None = None  # pixels of the mask; None: that of the box


@dataclass(frozen=True)
class Problem:
    """Something that had to be left out, and why."""

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
            sizes: true sizes of the images that are used, by key.
        """


def require(path: Path, what: str) -> Path:
    """Check that a part of a data set is there.

    Raises:
        ValueError: it is not.
    """
    if not path.exists():
        raise ValueError(f'SRC must hold {what}, found nothing at {path}')
    return path


@dataclass
class Prepared:
    """What was written, and what was not."""

    images: int = 0
    objects: int = 0
    crowds: int = 0  # regions to ignore
    clipped: int = 0  # boxes that reached out of their image
    problems: Counter[str] = field(default_factory=Counter)  # reason -> how many


@dataclass(frozen=True)
class _KnownImage:
    image_id: int
    image_hw: ImageHW


def prepare(source: Source, out: Path, info: dict[str, Any]) -> Prepared:
    """Convert a data set.

    Every image is opened, as far as its size; one that is missing, unreadable or of another
    size than annotated is left out with its objects. What is left out is listed in a file
    next to `out`, a line each.

    Args:
        source: the data set.
        out: COCO JSON to write.
        info: goes into its `info`.
    """
    result = Prepared()
    with (
        open_atomically(out) as file,
        open_atomically(out.with_suffix('.problems.jsonl')) as log,
    ):
        report = _Report(log, result)
        header = {'info': info, 'licenses': [], 'categories': CATEGORIES}
        file.write(json.dumps(header)[:-1].encode() + b',\n"images": [')
        known = _write_images(file, source, report)
        file.write(b'],\n"annotations": [')
        _write_annotations(file, source, known, report)
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


def _write_images(file: IO[bytes], source: Source, report: _Report) -> dict[str, _KnownImage]:
    known: dict[str, _KnownImage] = {}
    for image in source.images():
        if isinstance(image, SourceImage):
            image_hw = _check_image(source.image_folder, image)
            if not isinstance(image_hw, Problem):
                known[image.key] = _KnownImage(len(known) + 1, image_hw)
                height, width = image_hw
                entry = {'id': len(known), 'file_name': image.file_name}
                _write_item(file, entry | {'height': height, 'width': width}, len(known))
                continue
            report.add(image_hw)
        else:
            report.add(image)
    report.result.images = len(known)
    return known


def _check_image(folder: Path, image: SourceImage) -> ImageHW | Problem:
    """True size of an image, or why it cannot be used."""
    try:
        with (
            open_regular(folder / require_inside(image.file_name)) as file,
            Image.open(file) as opened,
        ):
            image_hw = opened.height, opened.width
    except BadName:
        return Problem(shown(image.file_name), 'image name leads out of the image folder')
    except FileNotFoundError:
        return Problem(image.file_name, 'image is missing')
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError):
        return Problem(image.file_name, 'image cannot be read')
    if image.image_hw not in (None, image_hw):
        return Problem(image.file_name, 'image is of another size than annotated')
    return image_hw


def _write_annotations(
    file: IO[bytes], source: Source, known: dict[str, _KnownImage], report: _Report
) -> None:
    written = 0
    sizes = {key: image.image_hw for key, image in known.items()}
    for annotation in _fitting(source, sizes, report):
        written += 1
        image_id = known[annotation.key].image_id
        _write_item(file, {'id': written, 'image_id': image_id} | _entry(annotation), written)
        if annotation.is_crowd:
            report.result.crowds += 1
        else:
            report.result.objects += 1


def _fitting(
    source: Source, sizes: dict[str, ImageHW], report: _Report
) -> Iterator[SourceAnnotation]:
    """Annotations of images that are used, clipped to them."""
    for annotation in source.annotations(sizes):
        if isinstance(annotation, Problem):
            report.add(annotation)
        elif annotation.key not in sizes:
            report.add(Problem(annotation.key, 'object of an image that is not used'))
        else:
            clipped = _clip(annotation, sizes[annotation.key])
            if isinstance(clipped, Problem):
                report.add(clipped)
                continue
            report.result.clipped += clipped is not annotation
            yield clipped


def _clip(annotation: SourceAnnotation, image_hw: ImageHW) -> SourceAnnotation | Problem:
    left, top, width, height = annotation.box_xywh
    if not min(width, height) > _MIN_SIDE_PX:  # also not a number
        return Problem(annotation.key, 'box without area')
    right, bottom = min(left + width, image_hw[1]), min(top + height, image_hw[0])
    left, top = max(left, 0.0), max(top, 0.0)
    if right - left <= _MIN_SIDE_PX or bottom - top <= _MIN_SIDE_PX:
        return Problem(annotation.key, 'box outside of the image')
    box = left, top, right - left, bottom - top
    if max(abs(a - b) for a, b in zip(box, annotation.box_xywh, strict=True)) < _MIN_SIDE_PX:
        return annotation
    return SourceAnnotation(
        annotation.key, box, annotation.is_crowd, annotation.segmentation, annotation.area
    )


def _entry(annotation: SourceAnnotation) -> dict[str, Any]:
    _, _, width, height = annotation.box_xywh
    entry = {
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
