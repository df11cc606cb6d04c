"""COCO 20K: images of COCO 2014 that a list names."""

from __future__ import annotations

from pathlib import Path

from cuts3d_mm.evaluation.preparation.coco_like import CocoLikeSource
from cuts3d_mm.evaluation.preparation.evaluation_set import EvaluationSet
from cuts3d_mm.evaluation.preparation.source import Source, require


def open_source(src: Path) -> Source:
    """Open the official files."""
    names = require(src / 'coco_20k_filenames.txt', 'the list of COCO 20K').read_text().split()
    files = [
        (src / 'annotations' / f'instances_{split}.json', split)
        for split in ('train2014', 'val2014')
    ]
    present = tuple(pair for pair in files if pair[0].is_file())
    if not present:
        require(files[0][0], 'COCO 2014 annotations')
    return CocoLikeSource(src, present, frozenset(Path(name).name for name in names))


SET = EvaluationSet(
    'COCO 20K',
    open_source,
    'coco_20k_filenames.txt, annotations/instances_{train,val}2014.json, train2014/, val2014/',
    19817,
    True,
)
