"""Describe an evaluation set: what it is called and where its official files lie."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cuts3d_mm.evaluation.preparation.source import Source


@dataclass(frozen=True)
class EvaluationSet:
    """One data set."""

    title: str  # as in the tables
    open_source: Callable[[Path], Source]
    layout: str  # what SRC must hold
    expected_images: int | None  # as CutLER's paper counts them; None: unknown
    has_masks: bool
