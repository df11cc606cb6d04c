"""Read OpenImages: CSV tables of boxes in parts of the image, or of masks in PNG files."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from cuts3d_mm.evaluation.preparation.source import (
    ImageHW,
    Problem,
    SourceAnnotation,
    SourceImage,
)
from cuts3d_mm.files.paths import BadName, open_regular, require_inside


@dataclass(frozen=True)
class OpenImagesSource:
    """The validation images, with the table of boxes or of masks.

    Args:
        image_folder: with `<ImageID>.jpg`.
        table: `validation-annotations-bbox.csv`, or
            `validation-annotations-object-segmentation.csv`.
        mask_folder: PNG files that a table of masks names; None for a table of boxes.
    """

    image_folder: Path
    table: Path
    mask_folder: Path | None = None

    def images(self) -> Iterator[SourceImage | Problem]:
        """List the images of the table."""
        for key in dict.fromkeys(row['ImageID'] for row in self._rows()):
            yield SourceImage(key, f'{key}.jpg')

    def annotations(self, sizes: Mapping[str, ImageHW]) -> Iterator[SourceAnnotation | Problem]:
        """Read the rows; groups of objects are to be ignored."""
        for number, row in enumerate(self._rows(), 2):  # after the header
            where = f'{self.table.name} line {number}'
            if row['ImageID'] not in sizes:
                yield Problem(where, 'object of an image that is not used')
            elif self.mask_folder is None:
                yield _box(row, sizes[row['ImageID']], where)
            else:
                yield _mask(self.mask_folder, row, sizes[row['ImageID']], where)

    def _rows(self) -> Iterator[dict[str, str]]:
        with self.table.open(newline='', encoding='utf-8') as file:
            reader = csv.DictReader(file)
            needed = {'ImageID', 'XMin' if self.mask_folder is None else 'MaskPath'}
            if not needed <= set(reader.fieldnames or ()):
                raise ValueError(f'{self.table} must have the columns {sorted(needed)}')
            yield from reader


def _box(row: dict[str, str], image_hw: ImageHW, where: str) -> SourceAnnotation | Problem:
    height, width = image_hw
    try:
        left, right, top, bottom = (float(row[c]) for c in ('XMin', 'XMax', 'YMin', 'YMax'))
    except (TypeError, ValueError):
        return Problem(where, 'annotation without a box')
    box = left * width, top * height, (right - left) * width, (bottom - top) * height
    return SourceAnnotation(row['ImageID'], box, is_crowd=row.get('IsGroupOf') == '1')


def _mask(
    folder: Path, row: dict[str, str], image_hw: ImageHW, where: str
) -> SourceAnnotation | Problem:
    try:
        path = folder / require_inside(PurePosixPath(row['MaskPath'] or '').name)
        with open_regular(path) as file, Image.open(file) as image:
            # Masks come in a size of their own.
            resized = image.convert('L').resize(image_hw[::-1], Image.Resampling.NEAREST)
            mask = np.asarray(resized) > 0
    except (OSError, BadName):
        return Problem(where, 'mask is missing or cannot be read')
    code = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    left, top, width, height = coco_mask.toBbox(code).tolist()
    segmentation = {'size': list(image_hw), 'counts': code['counts'].decode('ascii')}
    area = float(coco_mask.area(code))
    return SourceAnnotation(row['ImageID'], (left, top, width, height), False, segmentation, area)
