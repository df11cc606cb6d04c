"""Numbers of the recipe that a visitor can change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cuts3d_mm.algorithm.params import CutParams

_NO_LIMIT = 0


@dataclass(frozen=True)
class RecipeSlider:
    """A number of the recipe, its range and where it starts: at the value of the config."""

    field: str  # such as 'local_cut.tau_knn'
    label: str
    lowest: float
    highest: float
    step: float
    start: float


def recipe_sliders(params: CutParams) -> list[RecipeSlider]:
    """Sliders for the numbers that a recipe has."""
    most = _NO_LIMIT if params.max_instances is None else params.max_instances
    label = f'Most instances (N; the paper: 3; {_NO_LIMIT}: no limit)'
    sliders = [RecipeSlider('max_instances', label, _NO_LIMIT, max(10, most), 1, most)]
    if params.local_cut is not None:
        tau = params.local_cut.tau_knn
        label = 'Longest edge of the 3D graph (tau_knn)'
        bounds = min(0.02, tau), max(0.5, tau)
        sliders.append(RecipeSlider('local_cut.tau_knn', label, *bounds, 0.001, tau))
    return sliders


def changed_fields(sliders: Sequence[RecipeSlider], values: Sequence[float]) -> dict[str, Any]:
    """Fields of the recipe that a visitor has moved away from the config, with their values."""
    moved = {
        slider.field: value
        for slider, value in zip(sliders, values, strict=True)
        if abs(value - slider.start) > slider.step / 2  # browsers round to whole steps
    }
    if 'max_instances' in moved:
        most = int(moved['max_instances'])
        return {**moved, 'max_instances': None if most == _NO_LIMIT else most}
    return moved
