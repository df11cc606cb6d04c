"""List the evaluation sets in one table, and read their official files."""

from __future__ import annotations

import csv
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Mapping
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

from .conversion import ImageHW, Problem, Source, SourceAnnotation, SourceImage, require


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


def _open_boxes(src: Path) -> Source:
    table = require(src / 'validation-annotations-bbox.csv', 'the table of boxes')
    return OpenImagesSource(src / 'validation', table)


def _open_masks(src: Path) -> Source:
    name = 'validation-annotations-object-segmentation.csv'
    table = require(src / name, 'the table of masks')
    return OpenImagesSource(src / 'validation', table, src / 'validation-masks')


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
        _open_boxes,
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
        _open_masks,
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
    """One or several COCO JSON files.

    Args:
        image_folder: folder that file names are relative to.
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
    """Read the entries of a list at the top of a file; none of a broken file."""
    try:
        for entry in read_entries(path, (part,)):
            try:
                yield entry.read(dict)
            except ValueError:
                yield Problem(entry.where, 'entry is no JSON object')
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


@dataclass(frozen=True)
class VocSource:
    """A folder with `Annotations/`, `ImageSets/Main/` and `JPEGImages/`.

    Objects marked as difficult count as objects, since their class is not needed.

    Args:
        folder: folder such as VOC2007.
        splits: names of the lists, such as trainval and test.
    """

    folder: Path
    splits: tuple[str, ...]

    @property
    def image_folder(self) -> Path:
        """Folder of the JPEG files."""
        return self.folder / 'JPEGImages'

    def images(self) -> Iterator[SourceImage | Problem]:
        """Read the lists, and the sizes from the XML files."""
        for name in self._names():
            root = self._parse(name)
            if isinstance(root, Problem):
                yield root
                continue
            size = [root.findtext(f'size/{side}') for side in ('height', 'width')]
            image_hw = None
            if all(value is not None and value.isdecimal() for value in size):
                image_hw = int(size[0] or 0), int(size[1] or 0)
            yield SourceImage(name, f'{name}.jpg', image_hw)

    def annotations(self, sizes: Mapping[str, ImageHW]) -> Iterator[SourceAnnotation | Problem]:
        """Read the objects of the XML files."""
        for name in self._names():
            root = self._parse(name) if name in sizes else None
            if root is None or isinstance(root, Problem):  # `images` reports the problem
                continue
            for number, found in enumerate(root.iter('object')):
                box = _box_xywh(found)
                if box is None:
                    yield Problem(f'{name} object {number}', 'annotation without a box')
                else:
                    yield SourceAnnotation(name, box)

    def _names(self) -> Iterator[str]:
        seen = set()
        for split in self.splits:
            path = require(self.folder / 'ImageSets' / 'Main' / f'{split}.txt', 'VOC lists')
            for line in path.read_text(encoding='utf-8').splitlines():
                name = line.split()[0] if line.strip() else ''
                if name and name not in seen:
                    seen.add(name)
                    yield name

    def _parse(self, name: str) -> ElementTree.Element | Problem:
        try:
            with open_regular(self.folder / 'Annotations' / require_inside(f'{name}.xml')) as file:
                return ElementTree.parse(file).getroot()
        except BadName:
            return Problem(shown(f'{name}.xml'), 'annotation name leads out of its folder')
        except FileNotFoundError:
            return Problem(f'{name}.xml', 'annotation file is missing')
        except ElementTree.ParseError:
            return Problem(f'{name}.xml', 'broken XML')


def _box_xywh(found: ElementTree.Element) -> tuple[float, float, float, float] | None:
    """Box in pixels from 0; VOC counts pixels from 1 and includes the last pixel."""
    try:
        left, top, right, bottom = (
            float(found.findtext(f'bndbox/{side}', ''))
            for side in ('xmin', 'ymin', 'xmax', 'ymax')
        )
    except ValueError:
        return None
    return left - 1, top - 1, right - left + 1, bottom - top + 1


@dataclass(frozen=True)
class KittiSource:
    """The folder `training`, with `image_2/` and `label_2/`.

    Args:
        folder: folder such as kitti/training.
    """

    folder: Path

    @property
    def image_folder(self) -> Path:
        """Folder of the left colour images."""
        return self.folder / 'image_2'

    def images(self) -> Iterator[SourceImage | Problem]:
        """List the images that have a label file."""
        for path in self._label_files():
            yield SourceImage(path.stem, f'{path.stem}.png')

    def annotations(self, sizes: Mapping[str, ImageHW]) -> Iterator[SourceAnnotation | Problem]:
        """Read the label files; regions of the type DontCare become regions to ignore."""
        for path in self._label_files():
            if path.stem not in sizes:
                continue
            for number, line in enumerate(path.read_text(encoding='utf-8').splitlines(), 1):
                if line.strip():
                    yield _parse_line(path.stem, line.split(), f'{path.name} line {number}')

    def _label_files(self) -> list[Path]:
        return sorted(require(self.folder / 'label_2', 'training/label_2').glob('*.txt'))


def _parse_line(key: str, fields: list[str], where: str) -> SourceAnnotation | Problem:
    """Parse a line: type, truncated, occluded, alpha, left, top, right, bottom, 3D."""
    try:
        left, top, right, bottom = (float(value) for value in fields[4:8])
    except ValueError:
        return Problem(where, 'annotation without a box')
    box = left, top, right - left, bottom - top
    return SourceAnnotation(key, box, is_crowd=fields[0] == 'DontCare')


@dataclass(frozen=True)
class OpenImagesSource:
    """The validation images, with the table of boxes or of masks.

    Args:
        image_folder: folder with `<ImageID>.jpg`.
        table: `validation-annotations-bbox.csv`, or
            `validation-annotations-object-segmentation.csv`.
        mask_folder: folder of the PNG files in a table of masks; None for a table of boxes.
    """

    image_folder: Path
    table: Path
    mask_folder: Path | None = None

    def images(self) -> Iterator[SourceImage | Problem]:
        """List the images of the table."""
        for key in dict.fromkeys(row['ImageID'] for row in self._rows()):
            yield SourceImage(key, f'{key}.jpg')

    def annotations(self, sizes: Mapping[str, ImageHW]) -> Iterator[SourceAnnotation | Problem]:
        """Read the rows; groups of objects become regions to ignore."""
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
        with open_image(path) as image:
            # A mask may have another size than its image.
            resized = image.convert('L').resize(image_hw[::-1], Image.Resampling.NEAREST)
            mask = np.asarray(resized) > 0
    except (ImageFailure, BadName):
        return Problem(where, 'mask is missing or cannot be read')
    code = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    left, top, width, height = coco_mask.toBbox(code).tolist()
    segmentation = {'size': list(image_hw), 'counts': code['counts'].decode('ascii')}
    area = float(coco_mask.area(code))
    return SourceAnnotation(row['ImageID'], (left, top, width, height), False, segmentation, area)
