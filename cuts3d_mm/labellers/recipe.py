"""Read the recipe of a generator config."""

from __future__ import annotations

from typing import Any

from cuts3d_mm.algorithm.params import PRESETS, CutParams, params_from_dict


def build_params(recipe: dict[str, Any] | None) -> CutParams:
    """Turn the `recipe` of a config into parameters.

    Raises:
        ValueError: an unknown preset, parameter or choice.
    """
    if recipe is not None and not isinstance(recipe, dict):
        raise ValueError(f"recipe must be a dict, such as dict(preset='maskcut'), got {recipe!r}")
    changes = dict(recipe or {})
    preset = changes.pop('preset', 'cuts3d')
    if preset not in PRESETS:
        raise ValueError(f'recipe.preset must be one of {", ".join(PRESETS)}, got {preset!r}')
    return params_from_dict(CutParams, changes, 'recipe.', PRESETS[preset]())


def uses_depth(params: CutParams) -> bool:
    """Tell whether a recipe needs the depth of images."""
    return params.importance is not None or params.local_cut is not None


def require_depth(params: CutParams, depth: Any) -> None:
    """Check that a recipe that uses depth has a source of it.

    Raises:
        ValueError: it has none.
    """
    if uses_depth(params) and depth is None:
        raise ValueError(
            'depth must name a depth source for this recipe, got None; give a folder of '
            "depth maps with --depth, or set recipe.preset to 'maskcut'"
        )
