"""OpenImages v6 val, its masks."""

from __future__ import annotations

from pathlib import Path

from cuts3d_mm.evaluation.preparation.evaluation_set import EvaluationSet
from cuts3d_mm.evaluation.preparation.open_images import OpenImagesSource
from cuts3d_mm.evaluation.preparation.source import Source, require


def open_source(src: Path) -> Source:
    """Open the official files."""
    name = 'validation-annotations-object-segmentation.csv'
    table = require(src / name, 'the table of masks')
    return OpenImagesSource(src / 'validation', table, src / 'validation-masks')


SET = EvaluationSet(
    'OpenImages v6 val, masks',
    open_source,
    'validation-annotations-object-segmentation.csv, validation/, validation-masks/',
    None,
    True,
)
