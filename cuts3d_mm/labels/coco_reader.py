"""Read a COCO JSON image by image, whatever the order of its entries, in limited memory."""

from __future__ import annotations

import warnings
from array import array
from collections.abc import Iterator
from tempfile import SpooledTemporaryFile
from typing import NamedTuple

import msgspec
import numpy as np

from cuts3d_mm.files.remote import Place
from cuts3d_mm.labels.coco_schema import CocoAnnotation, CocoImage, RunLengths, convert_entry
from cuts3d_mm.labels.json_entries import read_entries

_MAX_IN_MEMORY = 2**26  # bytes of annotations, beyond which they go to a temporary file


class AnnotatedImage(NamedTuple):
    """An image and all that is annotated in it."""

    image: CocoImage
    annotations: list[tuple[int, CocoAnnotation]]  # with their indices in the file


def read_annotated_images(path: Place) -> Iterator[AnnotatedImage]:
    """Read a COCO JSON in the order of its images; each entry is checked, not yet its mask.

    The files of CutLER and CuVLER give the width of an image as its height. Where all run-length
    codes of an image say so, its size is corrected, with one warning that tells how many.

    Raises:
        ValueError: the file is no COCO JSON, or an entry is not as it must be; the message
            names both and what must hold.
    """
    with _Annotations() as annotations:
        try:
            images = _read_all(path, annotations)
            annotations.check_ids()
        except ValueError as error:
            raise ValueError(f'{path} must be a COCO JSON: {error}') from error
        yield from _in_order(path, images, annotations)


def _read_all(path: Place, annotations: _Annotations) -> list[CocoImage]:
    images: dict[int, CocoImage] = {}
    for entry in read_entries(path, ('images', 'annotations')):
        if entry.part == 'annotations':
            annotations.add(convert_entry(entry, CocoAnnotation))
            continue
        image = convert_entry(entry, CocoImage)
        if image.id in images:
            raise ValueError(f'{entry.where}.id must be of one image, got {image.id} again')
        images[image.id] = image
    annotations.assign(images)
    return list(images.values())


def _in_order(
    path: Place, images: list[CocoImage], annotations: _Annotations
) -> Iterator[AnnotatedImage]:
    num_swapped = 0
    for image, found in zip(images, annotations.by_image(len(images)), strict=True):
        sizes = {
            one.segmentation.size for _, one in found if isinstance(one.segmentation, RunLengths)
        }
        if sizes - {image.image_hw}:
            if sizes != {image.image_hw[::-1]}:
                raise ValueError(
                    f'{path}: masks of {image.file_name} must have the size of their image '
                    f'{image.image_hw} (H, W), got {sorted(sizes)}'
                )
            num_swapped += 1
            image = CocoImage(image.file_name, image.id, image.width, image.height)
        yield AnnotatedImage(image, found)
    if num_swapped:
        message = f'{path}: width and height were swapped in {num_swapped} of {len(images)} images'
        warnings.warn(f'{message}; corrected', stacklevel=4)


class _Annotations:
    """Annotations outside of memory, in the order of the file, to be read image by image."""

    def __init__(self) -> None:
        self._file = SpooledTemporaryFile(_MAX_IN_MEMORY)  # noqa: SIM115
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(CocoAnnotation).decode
        self._ends = array('q', [0])
        self._ids = array('q')
        self._image_ids = array('q')
        self._images: list[int] = []

    def __enter__(self) -> _Annotations:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, annotation: CocoAnnotation) -> None:
        content = self._encode(annotation)
        self._file.write(content)
        self._ends.append(self._ends[-1] + len(content))
        self._ids.append(annotation.id)
        self._image_ids.append(annotation.image_id)

    def check_ids(self) -> None:
        ids = np.frombuffer(self._ids, np.int64) if self._ids else np.empty(0, np.int64)
        order = np.argsort(ids, kind='stable')
        again = order[1:][np.diff(ids[order]) == 0]
        if again.size:
            index = int(again.min())
            raise ValueError(
                f'annotations[{index}].id must be of one annotation, got {ids[index]} again'
            )

    def assign(self, images: dict[int, CocoImage]) -> None:
        positions = {image_id: position for position, image_id in enumerate(images)}
        for index, image_id in enumerate(self._image_ids):
            position = positions.get(image_id)
            if position is None:
                raise ValueError(
                    f'annotations[{index}].image_id must be the id of an image, got {image_id}'
                )
            self._images.append(position)

    def by_image(self, num_images: int) -> Iterator[list[tuple[int, CocoAnnotation]]]:
        positions = np.asarray(self._images, np.int64)
        order = np.argsort(positions, kind='stable')
        bounds = np.searchsorted(positions[order], np.arange(num_images + 1))
        for first, last in zip(bounds[:-1], bounds[1:], strict=True):
            yield [(int(i), self._read(int(i))) for i in order[first:last]]

    def _read(self, index: int) -> CocoAnnotation:
        self._file.seek(self._ends[index])
        return self._decode(self._file.read(self._ends[index + 1] - self._ends[index]))
