"""Name the evaluation sets, and read their official files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
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
    expected_images: int | None  # as CutLER's paper counts them; None: unknown
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


def _open_kitti(src: Path) -> Source:
    return KittiSource(require(src / 'training', 'the folder training'))


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
    """Describe an evaluation set that lies as Pascal VOC does, in a folder of SRC."""
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
    'kitti': EvaluationSet('KITTI', _open_kitti, 'training/image_2/, training/label_2/', 7481),
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
