"""Sparse frames of UVO val."""

from __future__ import annotations

from pathlib import Path

from cuts3d_mm.evaluation.preparation.coco_like import CocoLikeSource
from cuts3d_mm.evaluation.preparation.evaluation_set import EvaluationSet
from cuts3d_mm.evaluation.preparation.source import Source, require


def open_source(src: Path) -> Source:
    """Open the official files."""
    path = require(src / 'UVO_frame_val.json', 'UVO frame annotations')
    return CocoLikeSource(src, ((path, 'uvo_videos_sparse_frames'),))


SET = EvaluationSet(
    'UVO val', open_source, 'UVO_frame_val.json, uvo_videos_sparse_frames/', 7356, True
)
