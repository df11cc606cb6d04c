"""KITTI, its training images."""

from __future__ import annotations

from pathlib import Path

from cuts3d_mm.evaluation.preparation.evaluation_set import EvaluationSet
from cuts3d_mm.evaluation.preparation.kitti import KittiSource
from cuts3d_mm.evaluation.preparation.source import Source, require


def open_source(src: Path) -> Source:
    """Open the official files."""
    return KittiSource(require(src / 'training', 'the folder training'))


SET = EvaluationSet('KITTI', open_source, 'training/image_2/, training/label_2/', 7481, False)
