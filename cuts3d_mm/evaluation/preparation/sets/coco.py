"""COCO val2017."""

from __future__ import annotations

from pathlib import Path

from cuts3d_mm.evaluation.preparation.coco_like import CocoLikeSource
from cuts3d_mm.evaluation.preparation.evaluation_set import EvaluationSet
from cuts3d_mm.evaluation.preparation.source import Source, require


def open_source(src: Path) -> Source:
    """Open the official files."""
    path = require(src / 'annotations' / 'instances_val2017.json', 'COCO annotations')
    return CocoLikeSource(src, ((path, 'val2017'),))


SET = EvaluationSet(
    'COCO val2017', open_source, 'annotations/instances_val2017.json, val2017/', 5000, True
)
