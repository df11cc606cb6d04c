"""The data sets of the papers' zero-shot tables, and where their official files lie."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cuts3d_mm.evaluation.preparation.coco_like import CocoLikeSource
from cuts3d_mm.evaluation.preparation.kitti import KittiSource
from cuts3d_mm.evaluation.preparation.open_images import OpenImagesSource
from cuts3d_mm.evaluation.preparation.source import Source, require
from cuts3d_mm.evaluation.preparation.voc import VocSource


@dataclass(frozen=True)
class EvaluationSet:
    """One data set."""

    title: str  # as in the tables
    open_source: Callable[[Path], Source]
    layout: str  # what SRC must hold
    expected_images: int | None  # as CutLER's paper counts them
    has_masks: bool


def _coco(src: Path) -> Source:
    path = require(src / 'annotations' / 'instances_val2017.json', 'COCO annotations')
    return CocoLikeSource(src, ((path, 'val2017'),))


def _coco20k(src: Path) -> Source:
    names = require(src / 'coco_20k_filenames.txt', 'the list of COCO 20K').read_text().split()
    files = [
        (src / 'annotations' / f'instances_{split}.json', split)
        for split in ('train2014', 'val2014')
    ]
    present = tuple(pair for pair in files if pair[0].is_file())
    if not present:
        require(files[0][0], 'COCO 2014 annotations')
    return CocoLikeSource(src, present, frozenset(Path(name).name for name in names))


def _lvis(src: Path) -> Source:
    path = require(src / 'annotations' / 'lvis_v1_val.json', 'LVIS annotations')
    return CocoLikeSource(src, ((path, ''),))


def _objects365(src: Path) -> Source:
    path = require(src / 'zhiyuan_objv2_val.json', 'Objects365 annotations')
    return CocoLikeSource(src, ((path, ''),))


def _uvo(src: Path) -> Source:
    path = require(src / 'UVO_frame_val.json', 'UVO frame annotations')
    return CocoLikeSource(src, ((path, 'uvo_videos_sparse_frames'),))


def _voc(src: Path) -> Source:
    return VocSource(require(src / 'VOC2007', 'the folder VOC2007'), ('trainval', 'test'))


def _cross_domain(name: str) -> Callable[[Path], Source]:
    return lambda src: VocSource(require(src / name, f'the folder {name}'), ('train', 'test'))


def _kitti(src: Path) -> Source:
    return KittiSource(require(src / 'training', 'the folder training'))


def _open_images(src: Path) -> Source:
    table = require(src / 'validation-annotations-bbox.csv', 'the table of boxes')
    return OpenImagesSource(src / 'validation', table)


def _open_images_masks(src: Path) -> Source:
    name = 'validation-annotations-object-segmentation.csv'
    table = require(src / name, 'the table of masks')
    return OpenImagesSource(src / 'validation', table, src / 'validation-masks')


_VOC_PARTS = 'Annotations/, ImageSets/Main/, JPEGImages/'
EVALUATION_SETS = {
    'coco': EvaluationSet(
        'COCO val2017', _coco, 'annotations/instances_val2017.json, val2017/', 5000, True
    ),
    'coco20k': EvaluationSet(
        'COCO 20K',
        _coco20k,
        'coco_20k_filenames.txt, annotations/instances_{train,val}2014.json, train2014/, val2014/',
        19817,
        True,
    ),
    'voc': EvaluationSet('Pascal VOC 2007', _voc, f'VOC2007/ with {_VOC_PARTS}', 9963, False),
    'objects365': EvaluationSet(
        'Objects365 v2 val',
        _objects365,
        'zhiyuan_objv2_val.json, and the images at the paths that it names',
        80000,
        False,
    ),
    'openimages': EvaluationSet(
        'OpenImages v6 val',
        _open_images,
        'validation-annotations-bbox.csv, validation/',
        41620,
        False,
    ),
    'openimages-masks': EvaluationSet(
        'OpenImages v6 val, masks',
        _open_images_masks,
        'validation-annotations-object-segmentation.csv, validation/, validation-masks/',
        None,
        True,
    ),
    'kitti': EvaluationSet('KITTI', _kitti, 'training/image_2/, training/label_2/', 7481, False),
    'lvis': EvaluationSet(
        'LVIS v1 val', _lvis, 'annotations/lvis_v1_val.json, train2017/, val2017/', 19809, True
    ),
    'uvo': EvaluationSet(
        'UVO val', _uvo, 'UVO_frame_val.json, uvo_videos_sparse_frames/', 7356, True
    ),
    **{
        name: EvaluationSet(
            name.capitalize(), _cross_domain(name), f'{name}/ with {_VOC_PARTS}', count, False
        )
        for name, count in (('clipart', 1000), ('comic', 2000), ('watercolor', 2000))
    },
}
