"""List the evaluation sets in one table, and read their official files."""

from __future__ import annotations

import csv
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from cuts3d_mm.files.paths import BadName, open_regular, require_inside, shown
from cuts3d_mm.images.reading import ImageFailure, open_image
from cuts3d_mm.labels.coco_json import read_entries

from .conversion import ImageHW, Report, Source, SourceAnnotation, SourceImage, require


@dataclass(frozen=True)
class EvaluationSet:
    """A data set for evaluation."""

    title: str  # title in the tables
    open_source: Callable[[Path], Source]
    layout: str  # files that SRC must hold
    expected_images: int | None  # number of images in CutLER's paper; None: unknown
    has_masks: bool = False


def _open_coco(name: str, what: str, folder: str, src: Path) -> Source:
    return CocoLikeSource(src, ((require(src / name, what), folder),))


def _open_coco20k(src: Path) -> Source:
    """Open the images of COCO 2014 that a list names."""
    names = require(src / 'coco_20k_filenames.txt', 'the list of COCO 20K').read_text().split()
    files = [
        (src / 'annotations' / f'instances_{split}.json', split)
        for split in ('train2014', 'val2014')
    ]
    present = tuple(pair for pair in files if pair[0].is_file())
    if not present:
        require(files[0][0], 'COCO 2014 annotations')
    return CocoLikeSource(src, present, frozenset(Path(name).name for name in names))


def _open_table(name: str, what: str, masks: str | None, src: Path) -> Source:
    table = require(src / f'validation-annotations-{name}.csv', what)
    return OpenImagesSource(src / 'validation', table, None if masks is None else src / masks)


def _voc_like(
    title: str, folder: str, splits: tuple[str, ...], expected_images: int
) -> EvaluationSet:
    """Describe an evaluation set with the layout of Pascal VOC, in a folder of SRC."""
    return EvaluationSet(
        title,
        lambda src: VocSource(require(src / folder, f'the folder {folder}'), splits),
        f'{folder}/ with Annotations/, ImageSets/Main/, JPEGImages/',
        expected_images,
    )


EVALUATION_SETS = {
    'coco': EvaluationSet(
        'COCO val2017',
        partial(_open_coco, 'annotations/instances_val2017.json', 'COCO annotations', 'val2017'),
        'annotations/instances_val2017.json, val2017/',
        5000,
        has_masks=True,
    ),
    'coco20k': EvaluationSet(
        'COCO 20K',
        _open_coco20k,
        'coco_20k_filenames.txt, annotations/instances_{train,val}2014.json, train2014/, val2014/',
        19817,
        has_masks=True,
    ),
    'voc': _voc_like('Pascal VOC 2007', 'VOC2007', ('trainval', 'test'), 9963),
    'objects365': EvaluationSet(
        'Objects365 v2 val',
        partial(_open_coco, 'zhiyuan_objv2_val.json', 'Objects365 annotations', ''),
        'zhiyuan_objv2_val.json, and the images at the paths that it names',
        80000,
    ),
    'openimages': EvaluationSet(
        'OpenImages v6 val',
        partial(_open_table, 'bbox', 'the table of boxes', None),
        'validation-annotations-bbox.csv, validation/',
        41620,
    ),
    'kitti': EvaluationSet(
        'KITTI',
        lambda src: KittiSource(require(src / 'training', 'the folder training')),
        'training/image_2/, training/label_2/',
        7481,
    ),
    'lvis': EvaluationSet(
        'LVIS v1 val',
        partial(_open_coco, 'annotations/lvis_v1_val.json', 'LVIS annotations', ''),
        'annotations/lvis_v1_val.json, train2017/, val2017/',
        19809,
        has_masks=True,
    ),
    'clipart': _voc_like('Clipart', 'clipart', ('train', 'test'), 1000),
    'comic': _voc_like('Comic', 'comic', ('train', 'test'), 2000),
    'openimages-masks': EvaluationSet(
        'OpenImages v6 val, masks',
        partial(_open_table, 'object-segmentation', 'the table of masks', 'validation-masks'),
        'validation-annotations-object-segmentation.csv, validation/, validation-masks/',
        None,
        has_masks=True,
    ),
    'uvo': EvaluationSet(
        'UVO val',
        partial(
            _open_coco, 'UVO_frame_val.json', 'UVO frame annotations', 'uvo_videos_sparse_frames'
        ),
        'UVO_frame_val.json, uvo_videos_sparse_frames/',
        7356,
        has_masks=True,
    ),
    'watercolor': _voc_like('Watercolor', 'watercolor', ('train', 'test'), 2000),
}


@dataclass(frozen=True)
class CocoLikeSource:
    """One or several COCO JSON files."""

    image_folder: Path  # folder that file names are relative to
    json_files: tuple[tuple[Path, str], ...]  # each with the folder of its images below
    wanted: frozenset[str] | None = None  # file names to keep, without folders; None keeps all

    def images(self, report: Report) -> Iterator[SourceImage]:
        """Read `images`; LVIS has `coco_url` in place of `file_name`."""
        found = set()
        for path, folder in self.json_files:
            for entry in _stream(path, 'images', report):
                try:
                    if 'file_name' not in entry:  # such as val2017/000000000139.jpg
                        entry['file_name'] = '/'.join(str(entry['coco_url']).split('/')[-2:])
                    name = str(PurePosixPath(folder, str(entry['file_name'])))
                    size = int(entry['height']), int(entry['width'])
                    image = SourceImage(f'{path.stem}:{entry["id"]}', name, size)
                except (KeyError, TypeError, ValueError):
                    where = f'{path.stem} image {entry.get("id")}'
                    report(where, 'image without id, name or size')
                    continue
                last = PurePosixPath(name).name
                if self.wanted is None or last in self.wanted:
                    found.add(last)
                    yield image
        for name in sorted((self.wanted or set()) - found):
            report(name, 'listed image is not annotated')

    def annotations(
        self, sizes: Mapping[str, ImageHW], report: Report
    ) -> Iterator[SourceAnnotation]:
        """Read `annotations` of the wanted images."""
        for path, _ in self.json_files:
            for entry in _stream(path, 'annotations', report):
                key = f'{path.stem}:{entry.get("image_id")}'
                if self.wanted is not None and key not in sizes:
                    continue
                try:
                    left, top, width, height = (float(value) for value in entry['bbox'])
                    area = entry.get('area')
                    yield SourceAnnotation(
                        key,
                        (left, top, width, height),
                        bool(entry.get('iscrowd', 0)),
                        entry.get('segmentation') or None,
                        None if area is None else float(area),
                    )
                except (KeyError, TypeError, ValueError):
                    report(f'{key} annotation {entry.get("id")}', 'annotation without a box')


def _stream(path: Path, part: str, report: Report) -> Iterator[dict[str, Any]]:
    """Read the entries of a list at the top of a file; none of a broken file."""
    try:
        for entry in read_entries(path, (part,)):
            try:
                yield entry.read(dict)
            except ValueError:
                report(entry.where, 'entry is no JSON object')
    except ValueError as error:
        report(path.name, f'broken JSON: {error}')


@dataclass(frozen=True)
class VocSource:
    """A folder with `Annotations/`, `ImageSets/Main/` and `JPEGImages/`.

    Objects marked as difficult count as objects, since their class is not needed.
    """

    folder: Path  # such as VOC2007
    splits: tuple[str, ...]  # names of the lists, such as trainval and test

    @property
    def image_folder(self) -> Path:
        """Folder of the JPEG files."""
        return self.folder / 'JPEGImages'

    def images(self, report: Report) -> Iterator[SourceImage]:
        """Read the lists, and the sizes from the XML files."""
        for name in self._names():
            root = self._parse(name, report)
            if root is None:
                continue
            size = [root.findtext(f'size/{side}', '') for side in ('height', 'width')]
            image_hw = None
            if all(value.isdecimal() for value in size):
                image_hw = int(size[0]), int(size[1])
            yield SourceImage(name, f'{name}.jpg', image_hw)

    def annotations(
        self, sizes: Mapping[str, ImageHW], report: Report
    ) -> Iterator[SourceAnnotation]:
        """Read the objects of the XML files."""
        for name in self._names():
            root = self._parse(name, report) if name in sizes else None
            for number, found in enumerate(() if root is None else root.iter('object')):
                try:
                    left, top, right, bottom = (
                        float(found.findtext(f'bndbox/{side}', ''))
                        for side in ('xmin', 'ymin', 'xmax', 'ymax')
                    )
                except ValueError:
                    report(f'{name} object {number}', 'annotation without a box')
                    continue
                # VOC counts pixels from 1 and includes the last pixel.
                box = left - 1, top - 1, right - left + 1, bottom - top + 1
                yield SourceAnnotation(name, box)

    def _names(self) -> Iterable[str]:
        lists = (self.folder / 'ImageSets' / 'Main' / f'{split}.txt' for split in self.splits)
        texts = [require(path, 'VOC lists').read_text(encoding='utf-8') for path in lists]
        lines = (line.split() for text in texts for line in text.splitlines())
        return dict.fromkeys(fields[0] for fields in lines if fields)

    def _parse(self, name: str, report: Report) -> ElementTree.Element | None:
        try:
            with open_regular(self.folder / 'Annotations' / require_inside(f'{name}.xml')) as file:
                return ElementTree.parse(file).getroot()
        except BadName:
            reason = 'annotation name leads out of its folder'
        except FileNotFoundError:
            reason = 'annotation file is missing'
        except ElementTree.ParseError:
            reason = 'broken XML'
        report(shown(f'{name}.xml'), reason)
        return None


@dataclass(frozen=True)
class KittiSource:
    """The folder `training`, with `image_2/` and `label_2/`."""

    folder: Path  # such as kitti/training

    @property
    def image_folder(self) -> Path:
        """Folder of the left colour images."""
        return self.folder / 'image_2'

    def images(self, report: Report) -> Iterator[SourceImage]:
        """List the images that have a label file."""
        for path in self._label_files():
            yield SourceImage(path.stem, f'{path.stem}.png')

    def annotations(
        self, sizes: Mapping[str, ImageHW], report: Report
    ) -> Iterator[SourceAnnotation]:
        """Read the label files; regions of the type DontCare become regions to ignore.

        Columns: type, truncated, occluded, alpha, left, top, right, bottom, 3D.
        """
        for path in self._label_files():
            if path.stem not in sizes:
                continue
            for number, line in enumerate(path.read_text(encoding='utf-8').splitlines(), 1):
                fields = line.split()
                if not fields:
                    continue
                try:
                    left, top, right, bottom = (float(value) for value in fields[4:8])
                except ValueError:
                    report(f'{path.name} line {number}', 'annotation without a box')
                    continue
                box = left, top, right - left, bottom - top
                yield SourceAnnotation(path.stem, box, is_crowd=fields[0] == 'DontCare')

    def _label_files(self) -> list[Path]:
        return sorted(require(self.folder / 'label_2', 'training/label_2').glob('*.txt'))


@dataclass(frozen=True)
class OpenImagesSource:
    """The validation images, with the table of boxes or of masks."""

    image_folder: Path  # holds `<ImageID>.jpg`
    table: Path
    mask_folder: Path | None = None  # PNG files in a table of masks; None for a table of boxes

    def images(self, report: Report) -> Iterator[SourceImage]:
        """List the images of the table."""
        for key in dict.fromkeys(row['ImageID'] for row in self._rows()):
            yield SourceImage(key, f'{key}.jpg')

    def annotations(
        self, sizes: Mapping[str, ImageHW], report: Report
    ) -> Iterator[SourceAnnotation]:
        """Read the rows; groups of objects become regions to ignore."""
        for number, row in enumerate(self._rows(), 2):  # after the header
            where = f'{self.table.name} line {number}'
            if row['ImageID'] not in sizes:
                report(where, 'object of an image that is not used')
                continue
            image_hw = sizes[row['ImageID']]
            try:
                if self.mask_folder is None:
                    yield _box(row, image_hw)
                else:
                    yield _mask(self.mask_folder, row, image_hw)
            except (ImageFailure, BadName):
                report(where, 'mask is missing or cannot be read')
            except (TypeError, ValueError):
                report(where, 'annotation without a box')

    def _rows(self) -> Iterator[dict[str, str]]:
        with self.table.open(newline='', encoding='utf-8') as file:
            reader = csv.DictReader(file)
            needed = {'ImageID', 'XMin' if self.mask_folder is None else 'MaskPath'}
            if not needed <= set(reader.fieldnames or ()):
                raise ValueError(f'{self.table} must have the columns {sorted(needed)}')
            yield from reader


def _box(row: dict[str, str], image_hw: ImageHW) -> SourceAnnotation:
    height, width = image_hw
    left, right, top, bottom = (float(row[c]) for c in ('XMin', 'XMax', 'YMin', 'YMax'))
    box = left * width, top * height, (right - left) * width, (bottom - top) * height
    return SourceAnnotation(row['ImageID'], box, is_crowd=row.get('IsGroupOf') == '1')


def _mask(folder: Path, row: dict[str, str], image_hw: ImageHW) -> SourceAnnotation:
    with open_image(folder / require_inside(PurePosixPath(row['MaskPath'] or '').name)) as image:
        # A mask may have another size than its image.
        resized = image.convert('L').resize(image_hw[::-1], Image.Resampling.NEAREST)
        mask = np.asarray(resized) > 0
    code = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    left, top, width, height = coco_mask.toBbox(code).tolist()
    segmentation = {'size': list(image_hw), 'counts': code['counts'].decode('ascii')}
    area = float(coco_mask.area(code))
    return SourceAnnotation(row['ImageID'], (left, top, width, height), False, segmentation, area)
