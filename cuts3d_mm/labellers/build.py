"""Build a labeller from its config."""

from __future__ import annotations

from typing import Any

from cuts3d_mm.registry import MODELS


def build_labeller(model: dict[str, Any]) -> Any:
    """Build what labels images, a generator or a detector, from its config.

    Raises:
        ValueError: the config names something unknown or leaves something out.
    """
    try:
        return MODELS.build(model)
    except (TypeError, KeyError) as error:
        raise ValueError(f'model config: {error}') from error
