"""OpenImages v6 val, its boxes."""

from __future__ import annotations

from pathlib import Path

from cuts3d_mm.evaluation.preparation.evaluation_set import EvaluationSet
from cuts3d_mm.evaluation.preparation.open_images import OpenImagesSource
from cuts3d_mm.evaluation.preparation.source import Source, require


def open_source(src: Path) -> Source:
    """Open the official files."""
    table = require(src / 'validation-annotations-bbox.csv', 'the table of boxes')
    return OpenImagesSource(src / 'validation', table)


SET = EvaluationSet(
    'OpenImages v6 val',
    open_source,
    'validation-annotations-bbox.csv, validation/',
    41620,
    False,
)
