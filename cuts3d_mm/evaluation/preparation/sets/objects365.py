"""Objects365 v2 val."""

from __future__ import annotations

from pathlib import Path

from cuts3d_mm.evaluation.preparation.coco_like import CocoLikeSource
from cuts3d_mm.evaluation.preparation.evaluation_set import EvaluationSet
from cuts3d_mm.evaluation.preparation.source import Source, require


def open_source(src: Path) -> Source:
    """Open the official files."""
    path = require(src / 'zhiyuan_objv2_val.json', 'Objects365 annotations')
    return CocoLikeSource(src, ((path, ''),))


SET = EvaluationSet(
    'Objects365 v2 val',
    open_source,
    'zhiyuan_objv2_val.json, and the images at the paths that it names',
    80000,
    False,
)
