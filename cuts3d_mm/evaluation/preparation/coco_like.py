"""Read COCO, COCO 20K, LVIS, Objects365 and UVO: one JSON each, in limited memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from cuts3d_mm.evaluation.preparation.source import (
    ImageHW,
    Problem,
    SourceAnnotation,
    SourceImage,
)
from cuts3d_mm.labels.coco_json import read_entries


@dataclass(frozen=True)
class CocoLikeSource:
    """One or several COCO JSON files.

    Args:
        image_folder: what file names are relative to.
        json_files: annotations, each with the folder of its images below `image_folder`.
        wanted: file names to keep, without folders; None keeps all.
    """

    image_folder: Path
    json_files: tuple[tuple[Path, str], ...]
    wanted: frozenset[str] | None = None

    def images(self) -> Iterator[SourceImage | Problem]:
        """Read `images`; LVIS has `coco_url` in place of `file_name`."""
        found = set()
        for path, folder in self.json_files:
            for entry in _stream(path, 'images'):
                image = entry if isinstance(entry, Problem) else _image(path, folder, entry)
                if isinstance(image, SourceImage):
                    name = PurePosixPath(image.file_name).name
                    if self.wanted is not None and name not in self.wanted:
                        continue
                    found.add(name)
                yield image
        for name in sorted((self.wanted or set()) - found):
            yield Problem(name, 'listed image is not annotated')

    def annotations(self, sizes: Mapping[str, ImageHW]) -> Iterator[SourceAnnotation | Problem]:
        """Read `annotations` of the wanted images."""
        for path, _ in self.json_files:
            for annotation in _stream(path, 'annotations'):
                if isinstance(annotation, Problem):
                    yield annotation
                    continue
                key = _key(path, annotation.get('image_id'))
                if self.wanted is None or key in sizes:
                    yield _annotation(key, annotation)


def _stream(path: Path, part: str) -> Iterator[dict[str, Any] | Problem]:
    """Entries of a list at the top of a file, up to where it is broken."""
    try:
        for entry in read_entries(path, (part,)):
            is_object = isinstance(entry.value, dict)
            yield entry.value if is_object else Problem(entry.where, 'entry is no JSON object')
    except ValueError as error:
        yield Problem(path.name, f'broken JSON: {error}')


def _image(path: Path, folder: str, image: dict[str, Any]) -> SourceImage | Problem:
    try:
        name = str(PurePosixPath(folder, _file_name(image)))
        size = int(image['height']), int(image['width'])
        return SourceImage(_key(path, image['id']), name, size)
    except (KeyError, TypeError, ValueError):
        return Problem(f'{path.stem} image {image.get("id")}', 'image without id, name or size')


def _file_name(image: dict[str, Any]) -> str:
    if 'file_name' in image:
        return str(image['file_name'])
    return '/'.join(str(image['coco_url']).split('/')[-2:])  # such as val2017/000000000139.jpg


def _key(path: Path, image_id: Any) -> str:
    return f'{path.stem}:{image_id}'


def _annotation(key: str, annotation: dict[str, Any]) -> SourceAnnotation | Problem:
    try:
        left, top, width, height = (float(value) for value in annotation['bbox'])
        area = annotation.get('area')
        return SourceAnnotation(
            key,
            (left, top, width, height),
            bool(annotation.get('iscrowd', 0)),
            annotation.get('segmentation') or None,
            None if area is None else float(area),
        )
    except (KeyError, TypeError, ValueError):
        return Problem(f'{key} annotation {annotation.get("id")}', 'annotation without a box')
