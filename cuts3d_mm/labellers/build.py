"""Build what labels images from its config."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cuts3d_mm.labellers.recipe import build_params, uses_depth
from cuts3d_mm.labellers.registry import DEPTH, LABELLERS


def build_labeller(model: dict[str, Any]) -> Any:
    """Build what labels images, a generator or a detector, from its config.

    Raises:
        ValueError: the config names something unknown or leaves something out.
    """
    try:
        return LABELLERS.build(model)
    except (TypeError, KeyError) as error:
        raise ValueError(f'model config: {error.args[0]}') from error


def with_depth_folder(model: dict[str, Any], folder: str | None) -> dict[str, Any]:
    """Let a generator read its depth from a folder.

    Args:
        model: config of a generator. Its depth source stays, with its other options, if it
            reads a folder; otherwise it makes way for `DepthFromFile`.
        folder: of depth maps; None keeps that of the config.

    Raises:
        ValueError: the folder that the depth is read from does not exist.
    """
    depth = model.get('depth') or {}
    kind = DEPTH.get(depth['type']) if 'type' in depth else None
    argument = getattr(kind, 'FOLDER_ARGUMENT', None)
    if folder is None:
        if argument in depth and uses_depth(build_params(model.get('recipe'))):
            _check_folder(depth[argument])
        return model
    _check_folder(folder)
    if argument is None:
        from cuts3d_mm.labellers.depth.file import DepthFromFile

        depth = {'type': f'cuts3d_mm.{DepthFromFile.__name__}'}
        argument = DepthFromFile.FOLDER_ARGUMENT
    return {**model, 'depth': {**depth, argument: folder}}


def _check_folder(folder: str) -> None:
    if not Path(folder).is_dir():
        raise ValueError(f'depth folder must exist, got {folder}; name one with --depth DIR')
