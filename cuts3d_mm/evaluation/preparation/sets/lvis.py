"""LVIS v1 val."""

from __future__ import annotations

from pathlib import Path

from cuts3d_mm.evaluation.preparation.coco_like import CocoLikeSource
from cuts3d_mm.evaluation.preparation.evaluation_set import EvaluationSet
from cuts3d_mm.evaluation.preparation.source import Source, require


def open_source(src: Path) -> Source:
    """Open the official files."""
    path = require(src / 'annotations' / 'lvis_v1_val.json', 'LVIS annotations')
    return CocoLikeSource(src, ((path, ''),))


SET = EvaluationSet(
    'LVIS v1 val', open_source, 'annotations/lvis_v1_val.json, train2017/, val2017/', 19809, True
)
