"""Find the evaluation sets: one per file of `sets/`."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from cuts3d_mm.evaluation.preparation.evaluation_set import EvaluationSet
from cuts3d_mm.evaluation.published import TABLE_2


def _find_sets() -> dict[str, EvaluationSet]:
    """Sets by name, those of the papers' Table 2 first and in its order."""
    stems = [path.stem for path in Path(__file__).parent.glob('sets/[!_]*.py')]
    found = {stem.replace('_', '-'): f'{__package__}.sets.{stem}' for stem in sorted(stems)}
    others = [name for name in found if name not in TABLE_2]
    return {name: import_module(found[name]).SET for name in (*TABLE_2, *others)}


EVALUATION_SETS = _find_sets()
